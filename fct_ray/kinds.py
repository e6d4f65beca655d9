"""The closed sets of names that every room speaks: metrics, methods, tasks, kinds of evidence, verdicts.

Owns: the names, and one sentence about each. Imports nothing but the standard library.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Metric(StrEnum):
    """How two embeddings are compared."""

    IP = "ip"
    """Inner product; larger is nearer."""
    L2 = "l2"
    """Squared Euclidean distance; smaller is nearer."""


class KeyType(StrEnum):
    """What the items of a gallery are called by, where that is no whole number: the type of the column `key`."""

    STRING = "string"
    """Text, such as names, URIs, or UUIDs that are written as text."""
    UUID = "uuid"
    """UUIDs of 16 bytes, shown and accepted as text too."""
    BINARY = "binary"
    """Other bytes, shown and accepted as hexadecimal text."""


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
    """Some rows are transformed, others embedded; the counts of the shard say how many."""


class VectorMetric(StrEnum):
    """How vectors that are brought are compared."""

    IP = "ip"
    """Inner product, also cosine of unit vectors."""
    L2 = "l2"
    """Euclidean distance."""
    COSINE = "cosine"
    """Inner product of vectors that are scaled to length 1 whenever they are read."""


class Method(StrEnum):
    """A way to search a gallery, from doing nothing to the full backfill; the keys of reports."""

    OLD_OLD = "old_old"
    """Old queries on the old gallery: doing nothing."""
    DIRECT = "direct"
    """New queries on the old gallery as it is."""
    WHITENED = "whitened"
    """Old queries on old embeddings, both centred and whitened; nothing is fitted."""
    FUSED = "fused"
    """Old queries on old embeddings and side-information, both joined; nothing is fitted."""
    FUSED_WHITENED = "fused_whitened"
    """The same, each centred and whitened."""
    BCT = "bct"
    """New queries of a backward-compatible new model on the old gallery."""
    SHARED_SPACE = "shared_space"
    """New queries on the coordinates that old and new embeddings share: identity, or a truncation."""
    PROCRUSTES = "procrustes"
    """New queries on rotated old embeddings."""
    LINEAR_NOSIDE = "linear_noside"
    """New queries on the gallery through a linear map of the old embeddings."""
    LINEAR_SIDE = "linear_side"
    """New queries on the gallery through a linear map of old embeddings and side-information."""
    CORRECTED = "corrected"
    """New queries on the gallery through a linear map, corrected by the pairs that are near."""
    FCT_NOSIDE = "fct_noside"
    """New queries on the gallery through an MLP of the old embeddings."""
    FCT_SIDE = "fct_side"
    """New queries on the gallery through an MLP of old embeddings and side-information."""
    FUSED_LINEAR = "fused_linear"
    """New, old and, where stored, side queries on a linear map's outputs and whitened stored vectors, joined."""
    FUSED_CORRECTED = "fused_corrected"
    """The same with the corrected map's outputs."""
    FUSED_FCT = "fused_fct"
    """The same with the MLP's outputs."""
    NEW_NEW = "new_new"
    """New queries on the gallery embedded with the new model: a full backfill."""

    @property
    def reads_side(self) -> bool:
        """Whether it needs side-information."""
        return self in (Method.FUSED, Method.FUSED_WHITENED, Method.LINEAR_SIDE, Method.FCT_SIDE)


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


class QueryRole(StrEnum):
    """Which embedding of a query is meant, or which vector of an item."""

    OLD = "old"
    """By the encoder of the version that is upgraded."""
    SIDE = "side"
    """By the model that made the side-information."""
    NEW = "new"
    """By the encoder that the upgrade leads to."""


class Task(StrEnum):
    """What people search for; one way to search can be better at one and worse at the other."""

    KNOWN_ITEM = "known-item"
    """This one item, by something else that is known of it (a title, another photo)."""
    SIMILAR = "similar"
    """Items that are like this one."""


class EvidenceKind(StrEnum):
    """What ways to search are judged by, from the strongest to the weakest."""

    QUERIES = "queries"
    """Real queries whose relevant items are known, over the gallery."""
    PSEUDO = "pseudo-queries"
    """Another view of an item, which the index does not hold, looks for this item, over the gallery."""
    LABELS = "labels"
    """Items of the same label, over the gallery."""
    POOLED = "pooled"
    """True new similarity of what every way returns from the gallery."""
    HELD_OUT = "held-out"
    """Agreement with the new model among the held-out pairs alone: provisional."""


class Verdict(StrEnum):
    """What the gate recommends."""

    UPGRADE = "upgrade"
    """Publish the way that was chosen."""
    KEEP = "keep"
    """Keep the old model: no way is better, nor is the new model."""
    BACKFILL = "backfill"
    """Embed everything again: the new model is better, and no way short of that is."""
    MORE_EVIDENCE = "more-evidence"
    """Not decided: bring more, the advice says what and how much."""


class WayChoice(StrEnum):
    """Which ways of upgrading are compared."""

    AUTO = "auto"
    """All that the data allow."""
    H = "h"
    """Linear maps and the network h."""
    FUSED = "fused"
    """Joined blocks: whitened, old + side, and with h where one is fitted."""
    NOTHING_FITTED = "nothing-fitted"
    """Whitened and fused stored vectors alone: no pairs are fitted on, and the old model's queries stay."""


class Accept(StrEnum):
    """On which evidence an upgrade may be published."""

    PROVEN = "proven"
    """Only on evidence that can show what was asked for."""
    PROVISIONAL = "provisional"
    """Also on held-out pairs alone, and on evidence of one task where both were asked for."""
