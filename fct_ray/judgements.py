"""What was measured of ways to search, and what the gate decided by it: the frozen nouns of judging.

Owns: those types. A gate's result is stored in the manifest of the version that it let pass, and in reports.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fct_ray.kinds import EvidenceKind, Method, Precision, QueryRole, Task, Verdict


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
    """One measure of a way to search, held against doing nothing.

    `margin` is the mean of the per-query differences candidate - bar; `margin_low` and `margin_high` are the ends of its
    one-sided 95 % bounds, widened for the number of ways that were compared.
    """

    measure: str
    candidate: float
    bar: float
    margin: float
    margin_low: float
    passed: bool
    margin_high: float = 1.0
    must_be_proven: bool = True
    """True: the lower bound must lie above zero. False: the mean must not lie below zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WayJudged:
    """One way to search as the gate saw it; a line of its table."""

    method: Method
    variant: str
    """The weights of its blocks, e.g. "0.5 old + 0.5 side"; empty where there is nothing to choose."""
    checks: tuple[GateCheck, ...]
    query_roles: tuple[QueryRole, ...]
    """Which embeddings of a query it needs."""
    bytes_per_item: int
    """How many bytes one item's vector takes in the shards (float32)."""
    other_checks: tuple[GateCheck, ...] = ()
    """Measures of the other task, where both were asked for and can be shown: none of them may fall."""

    @property
    def clears(self) -> bool:
        """Whether it passed every check."""
        return all(check.passed for check in (*self.checks, *self.other_checks))


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherTask:
    """What the chosen way does to the task that did not choose it."""

    task: Task
    evidence: EvidenceKind
    num_queries: int
    checks: tuple[GateCheck, ...]
    must_not_fall: bool = False
    """Whether a fall of one of the measures on average kept ways from being published; False: it is told, no more."""
    sentence: str = ""
    """The same in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """What the gate measured and decided; stored in the manifest and in the report."""

    passed: bool
    num_pairs: int
    """How many queries judged: held-out pairs, or the queries of a file."""
    k: int
    chosen: Method
    """Which way was judged best, and published if it passed."""
    cosine: float
    """Mean cosine between h's outputs and the true new embeddings of the held-out pairs; 0 for a way without h."""
    agreement: dict[Method, float]
    """The deciding measure of every way, by method."""
    checks: tuple[GateCheck, ...]
    """Those of the chosen way."""
    worst_group: dict[str, float] | None = None
    """{"group": label, "candidate": measure, "bar": measure} of the group that the chosen way serves worst."""
    negative_flips: float | None = None
    """Share of queries that were right at rank 1 before and are wrong after."""
    precision: Precision = Precision.FLOAT32
    """In which the chosen way is computed."""
    precision_loss: float | None = None
    """What the chosen way lost of the deciding measure by not being computed in float32; None where it was."""
    reason: str = ""
    advice: str = ""
    evidence: EvidenceKind = EvidenceKind.HELD_OUT
    task: Task | None = None
    """The task that was asked for; None: both."""
    verdict: Verdict = Verdict.UPGRADE
    gallery_rows: int = 0
    """Items that were searched to judge; 0: not recorded."""
    gallery_total: int = 0
    """Items of the gallery; above `gallery_rows` where a sample was searched."""
    ways: tuple[WayJudged, ...] = field(default=(), repr=False)
    """Every way that was compared, best first."""
    new_model: GateCheck | None = None
    """The new model against the old one, where both embeddings of the items are known."""
    other_task: OtherTask | None = None
    """What the chosen way does to the other task, where the data show it."""
