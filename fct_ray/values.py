"""The frozen nouns that every room speaks: usage and the documents of a store.

Owns: names, types and the arithmetic that makes them add up. Knows no file system, no clock, and no library but the
standard one. Units are suffixes: `_s` seconds, `_bytes` bytes, `_usd` US
dollars; `flops` counts floating-point operations, two per multiply-add. Paths inside a store are relative to its root with
forward slashes; only adopted objects have absolute URIs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from fct_ray.judgements import GateResult
from fct_ray.kinds import KeyType, Metric, Precision, Provenance, QueryRole

FORMAT_VERSION = 1
JOINED_FORMAT_VERSION = 2
"""The format of versions that are not searched with one encoder's embeddings as they are: see `Manifest.queries`."""
WIDE_FORMAT_VERSION = 3
"""The format of versions whose items have keys, or whose adopted objects are read by an `AdoptedLayout` or by row ranges."""
ROW_NUMBERS = "row"
"""The `id` of an `AdoptedLayout` without a column of ids: an item is called by its position."""
_ONLY_WHERE_SET = {"only_where_set": True}
"""Fields that documents leave out where they are None, so that what earlier releases can read keeps its bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that was left out of a shard: its position in what the shard was made from, its id if it has one, and why."""

    row: int
    id: int | None
    reason: str
    key: str | None = field(default=None, metadata=_ONLY_WHERE_SET)
    """Its key as text, in a store with keys."""

    @property
    def name(self) -> str:
        """What its user calls it."""
        return str(self.id if self.key is None else self.key)


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
    """One object of a store: `path` relative to the store's root, or an absolute URI if adopted.

    An adopted Parquet object may be several shards: then each is a range of its `rows`, which are whole row groups and lie in
    its `byte_range` without a gap; `bytes` and `sha256` are then those of that range.
    """

    path: str
    bytes: int
    sha256: str
    rows: tuple[int, int] | None = field(default=None, metadata=_ONLY_WHERE_SET)
    """First row, and the row after the last."""
    byte_range: tuple[int, int] | None = field(default=None, metadata=_ONLY_WHERE_SET)
    """First byte, and the byte after the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroups:
    """One row group of a Parquet object, or some in a row: first row and byte, the ones after the last, and their size."""

    rows: tuple[int, int]
    byte_range: tuple[int, int]
    loaded_bytes: int
    """What they take when they are decompressed."""


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
class QueryInput:
    """One embedding of every query that a version needs: by which encoder, and in which role."""

    role: QueryRole
    encoder: EncoderRef
    dimension: int


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
class AdoptedLayout:
    """How adopted objects are read: which of their columns mean what. Objects of the store itself need none."""

    id: str = "id"
    """The column of ids or keys; ROW_NUMBERS: there is none, the id of row r of a shard is its `id_min` + r."""
    embedding: str = "embedding"
    side_info: str = "side_info"
    label: str = "label"
    truncate: int | None = None
    """So many leading numbers of each embedding count (Matryoshka); None: all."""
    normalize: bool = False
    """Whether embeddings are scaled to length 1 when they are read; zero vectors stay."""


def is_adopted(path: str, adopted_from: tuple[str, ...]) -> bool:
    """Whether the object at a path of a manifest is read as an adopted one; see `Manifest.is_adopted`."""
    return "://" in path and not any(path.startswith(f"{root}/") for root in adopted_from[1:])


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
    queries: tuple[QueryInput, ...] = ()
    """Which embeddings make up a query, through the model of `transformation`. Empty: those of `encoder`, as they are."""
    adopted_from: tuple[str, ...] = ()
    """Directories (`s3://BUCKET/PREFIX`, `file:///DIR`) below which shards may lie outside of the store."""
    keys: KeyType | None = field(default=None, metadata=_ONLY_WHERE_SET)
    """What the items are called by, beside their `id`; None: the `id` is their own."""
    adopted: AdoptedLayout | None = field(default=None, metadata=_ONLY_WHERE_SET)
    """How objects outside of the store are read; None: by `id`, `embedding`, `side_info`, `label`, as they are."""

    def is_adopted(self, ref: ObjectRef) -> bool:
        """Whether an object was adopted, so that `adopted` and `keys` say how it is read; else it is in the store's format.

        Only the first of `adopted_from` was adopted: below others lie objects of other stores.
        """
        return is_adopted(ref.path, self.adopted_from)

    def needed_format_version(self) -> int:
        """The oldest format version that has a word for all that this manifest says."""
        if self.keys or self.adopted or any(record.embeddings.rows is not None for record in self.shards):
            return WIDE_FORMAT_VERSION
        return JOINED_FORMAT_VERSION if self.queries else FORMAT_VERSION

    def with_format_version(self) -> Manifest:
        """A copy that carries `needed_format_version`."""
        return dataclasses.replace(self, format_version=self.needed_format_version())


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """The pointer to the published version: CURRENT.json."""

    version: int
    manifest: str
    sha256: str
