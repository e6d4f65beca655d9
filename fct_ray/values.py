"""The frozen nouns that every room speaks: usage, store documents, gate results, compatibility rows.

Owns: names, types and the arithmetic that makes them add up. Knows no file system, no clock, and at run time no library but
the standard one (arrays are NumPy's, in annotations only). Units are suffixes: `_s` seconds, `_bytes` bytes, `_usd` US
dollars; `flops` counts floating-point operations, two per multiply-add. Paths inside a store are relative to its root with
forward slashes; only adopted objects have absolute URIs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT_VERSION = 1


class Metric(StrEnum):
    """How two embeddings are compared."""

    IP = "ip"
    """Inner product; larger is nearer."""
    L2 = "l2"
    """Squared Euclidean distance; smaller is nearer."""


class Precision(StrEnum):
    """The numbers that h is computed with; what is stored is float32 either way."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    """Inputs, weights and layers' outputs in bfloat16, sums and the final normalisation in float32."""


class Provenance(StrEnum):
    """How the embeddings of a shard came to be."""

    EMBEDDED = "embedded"
    TRANSFORMED = "transformed"
    MIXED = "mixed"


class Method(StrEnum):
    """A way to search a gallery, from doing nothing to the full backfill; the keys of reports."""

    OLD_OLD = "old_old"
    """Old queries on the old gallery: doing nothing."""
    DIRECT = "direct"
    """New queries on the old gallery as it is."""
    FUSED = "fused"
    """Old queries on old embeddings and side-information, both joined; nothing is fitted."""
    BCT = "bct"
    """New queries of a backward-compatible new model on the old gallery."""
    LINEAR_NOSIDE = "linear_noside"
    """New queries on the gallery through a linear map of the old embeddings."""
    LINEAR_SIDE = "linear_side"
    """New queries on the gallery through a linear map of old embeddings and side-information."""
    FCT_NOSIDE = "fct_noside"
    """New queries on the gallery through an MLP of the old embeddings."""
    FCT_SIDE = "fct_side"
    """New queries on the gallery through an MLP of old embeddings and side-information."""
    NEW_NEW = "new_new"
    """New queries on the gallery embedded with the new model: a full backfill."""

    @property
    def reads_side(self) -> bool:
        """Whether it needs side-information."""
        return self in (Method.FUSED, Method.LINEAR_SIDE, Method.FCT_SIDE)


def method_of_transformation(kind: Literal["mlp", "linear", "corrected", "blocks"], *, reads_side: bool) -> Method:
    """The method by which a transformation of this architecture is reported: all but linear ones as h."""
    if kind == "linear":
        return Method.LINEAR_SIDE if reads_side else Method.LINEAR_NOSIDE
    return Method.FCT_SIDE if reads_side else Method.FCT_NOSIDE


class SideInfoUse(StrEnum):
    """Whether an upgrade reads the side-information that a store keeps."""

    STORED = "stored"
    """Whatever the store has."""
    NONE = "none"
    """None, even if the store has some."""


class OnBadRow(StrEnum):
    """What to do with a row that cannot be used (no vector, NaN, a repeated id, an unreadable item)."""

    REFUSE = "refuse"
    """Stop, and name it."""
    QUARANTINE = "quarantine"
    """Leave it out, count it and list it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that was left out of a shard: its position in what the shard was made from, its id if it has one, and why."""

    row: int
    id: int | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Work done, counted where it happens; adds with `+` in any order.

    `busy_cpu_s` is CPU time of the worker process (all threads), `node_s` node-seconds held, `flops` two per
    multiply-add. `wall_s` adds too: summed over a resumed run it is the time of all attempts.
    """

    wall_s: float = 0.0
    busy_cpu_s: float = 0.0
    busy_gpu_s: float = 0.0
    node_s: float = 0.0
    flops: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    rows: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Field-wise sum."""
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(Usage)})

    def __mul__(self, share: float) -> Usage:
        """That share of the work, e.g. one candidate's part of a fit; counts are rounded."""
        scaled = {f.name: getattr(self, f.name) * share for f in dataclasses.fields(Usage)}
        whole = {name: round(scaled[name]) for name in ("bytes_read", "bytes_written", "rows")}
        return Usage(**{**scaled, **whole})

    def replace(self, **changes: Any) -> Usage:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRef:
    """One object of a store: `path` relative to the store's root, or an absolute URI if adopted."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderRef:
    """A model by name and fingerprint; the fingerprint decides whose queries may search a version."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SideInfoRef:
    """The model that made a version's side-information, and how it is stored.

    `dtype` is "float32", "float16" or "int8" (int8 carries its scale in the Parquet field's metadata).
    """

    name: str
    fingerprint: str
    dimension: int
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformationRef:
    """The transformation h that made a version, by fingerprint, its direction (encoder fingerprints), its precision."""

    name: str
    fingerprint: str
    from_encoder: str
    to_encoder: str
    precision: Precision = Precision.FLOAT32


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexRef:
    """A version's index: the FAISS factory string and, where it needs training, the trained empty index."""

    factory: str
    trained: ObjectRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """One shard of a version as its manifest lists it.

    `counts` says how many rows have which provenance; `input_sha256` is the hash of the shard it was made from
    (None for shards embedded from raw items or adopted).
    """

    shard: int
    embeddings: ObjectRef
    index: ObjectRef | None
    rows: int
    id_min: int
    id_max: int
    provenance: Provenance
    counts: dict[str, int] = field(default_factory=dict)
    input_sha256: str | None = None
    quarantined: int = 0
    """Rows of the input that were left out as unusable; rows + quarantined = rows of the input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What a worker writes after a shard's outputs are durable; the unit of resuming and of metering."""

    run: str
    record: ShardRecord
    usage: Usage
    peak_memory_bytes: int
    """Largest resident set of the worker process so far."""
    worker: str
    """Which worker process wrote it: "<Ray node id, 12 digits>:<process id>"."""
    started_at: float = 0.0
    """When the worker took the shard, seconds since 1970 by its node's clock."""
    ended_at: float = 0.0
    """When its outputs were durable, likewise."""
    bad_rows: tuple[BadRow, ...] = ()
    """The rows that were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalQuality:
    """Retrieval measures of one query set on one gallery, as shares of 1."""

    top1: float
    top5: float
    map: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CompatibilityRow:
    """One line of the compatibility table: which queries search which gallery, and how well."""

    method: Method
    query: str
    gallery: str
    side_information: bool
    top1: float
    top5: float
    map: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredShare:
    """(method - old/old) / (new/new - old/old), for top-1 and mAP."""

    top1: float
    map: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GateCheck:
    """One bar that a transformation must clear on held-out pairs.

    `margin` is the mean of the per-query differences candidate - bar, `margin_low` its one-sided 95 % lower bound.
    """

    measure: str
    candidate: float
    bar: float
    margin: float
    margin_low: float
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryScores:
    """What one way to search scored on every query; all ways over the same Q queries in the same order."""

    agreement_Q: npt.NDArray[np.floating]
    """Share of the new model's own top-k that this way finds."""
    average_precision_Q: npt.NDArray[np.floating] | None = None
    """Only with labels; NaN where a query has no relevant item."""
    top1_right_Q: npt.NDArray[np.bool_] | None = None
    """Only with labels: the first neighbour has the query's label."""
    cosine: float = 0.0
    """Mean cosine of h's outputs and the true new embeddings; 0 for a way without h."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """What the gate measured and decided; stored in the manifest and in the report."""

    passed: bool
    num_pairs: int
    k: int
    chosen: Method
    """Which candidate was judged."""
    cosine: float
    """Mean cosine between h's outputs and the true new embeddings of the held-out pairs."""
    agreement: dict[Method, float]
    """Neighbour agreement at k with the new model's own top-k, by method."""
    checks: tuple[GateCheck, ...]
    worst_group: dict[str, float] | None = None
    """{"group": label, "candidate": agreement, "bar": agreement} of the group that h serves worst."""
    negative_flips: float | None = None
    """Share of held-out queries that were right at rank 1 with old/old and are wrong with new/h (labels only)."""
    precision: Precision = Precision.FLOAT32
    """In which the candidates were computed, as the published vectors are."""
    precision_loss: float | None = None
    """Agreement that the chosen candidate lost by not being computed in float32; None where it was."""
    reason: str = ""
    advice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The complete, immutable description of one version of a store."""

    format_version: int = FORMAT_VERSION
    version: int
    parent: int | None
    created_at: str
    num_rows: int
    dimension: int
    metric: Metric
    normalized: bool
    encoder: EncoderRef
    side_info: SideInfoRef | None
    transformation: TransformationRef | None
    index: IndexRef | None
    shards: tuple[ShardRecord, ...] = field(repr=False)
    gate: GateResult | None
    run: str
    adopted_from: tuple[str, ...] = ()
    """Directories (`s3://BUCKET/PREFIX`, `file:///DIR`) below which shards may lie outside of the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """The pointer to the published version: CURRENT.json."""

    version: int
    manifest: str
    sha256: str
