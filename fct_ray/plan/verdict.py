"""The gate: may this version be published, by which way to search, and if not, what then? A decision over measures.

    evidence, ways with their measures --> verdict: upgrade | keep | backfill | more evidence

Owns: which measures decide for each kind of evidence, the choice among ways, and what each kind of evidence cannot
show. Knows no embeddings: measures, their differences to doing nothing and their bounds come from evaluation/.

How it decides. The bar is doing nothing: old queries on the old gallery. A way clears it if its deciding measure is
*proven* better (the lower bound of the mean paired difference is above zero, widened for the number of ways that are
compared, so that choosing the best one is no cheat) and no other measure of it is worse on average. Of those that
clear, the best one is chosen; within a tenth of a point, the simplest.

What evidence is worth. Real queries decide for what they ask, alone. Pseudo-queries, an item's other view, show whether
one known item is found; labels and pooled judgement show whether similar items are, and cannot show the first: on text, h
made similar items better found and known ones much worse. Where both tasks are asked for, a way must be proven better at
finding known items, and no measure of finding similar ones may fall on average. Held-out pairs are items of the gallery
that search a gallery of pairs: they decide nothing unless that is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fct_ray.judgements import GateCheck, GateResult, WayJudged
from fct_ray.kinds import EvidenceKind, Method, Task, Verdict
from fct_ray.plan import verdict_texts
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.tasks import shows

SIMPLEST_FIRST = (
    Method.WHITENED,
    Method.FUSED,
    Method.FUSED_WHITENED,
    Method.SHARED_SPACE,
    Method.PROCRUSTES,
    Method.LINEAR_NOSIDE,
    Method.LINEAR_SIDE,
    Method.CORRECTED,
    Method.FCT_NOSIDE,
    Method.FCT_SIDE,
    Method.FUSED_LINEAR,
    Method.FUSED_CORRECTED,
    Method.FUSED_FCT,
)
"""Ties go to the earlier: nothing fitted, then fewer parameters, then fewer query embeddings."""
TIE_MARGIN = 0.001
"""Means closer than a tenth of a point are a tie: less than a change of seed moves them."""
MAX_PRECISION_LOSS = 0.005
"""Half a point of the deciding measure: what speed may cost unasked. The bars themselves hold in any precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """By what ways were judged."""

    kind: EvidenceKind
    num_queries: int
    k: int
    gallery_rows: int
    """Items that were searched."""
    gallery_total: int
    """Items of the gallery."""
    task: Task | None
    """What was asked for; None: both tasks."""
    accept_provisional: bool = False
    """Publish on evidence that cannot show everything that was asked for."""
    tolerance: float = 0.0
    """How much worse than doing nothing is still accepted."""
    whole_gallery_k: float | None = None
    """Which k of the whole gallery `k` stands for, where a sample was searched; None where it is `k`."""
    uncovered_share: float = 0.0
    """Share of the gallery in shards without a pair: held-out pairs say nothing about it."""
    other: EvidenceKind | None = None
    """By what the other task is judged, whose measures must not fall; None where it has no say."""


def measures_that_must_be_proven(kind: EvidenceKind, k: int) -> tuple[str, ...]:
    """The deciding measures of this kind of evidence, the first of which chooses; all others must not fall.

    Examples:
        >>> measures_that_must_be_proven(EvidenceKind.POOLED, 10)
        ('pooled_recall@10',)
    """
    return {
        EvidenceKind.QUERIES: ("mrr",),
        EvidenceKind.PSEUDO: ("mrr",),
        EvidenceKind.LABELS: ("map",),
        EvidenceKind.POOLED: (f"pooled_recall@{k}",),
        EvidenceKind.HELD_OUT: (f"agreement@{k}", "map"),
    }[kind]


def checked(check: GateCheck, judged: Judged) -> GateCheck:
    """The check with its outcome: proven better where that is needed, else not worse on average.

    With a tolerance both may be that much below zero.
    """
    must = check.measure in measures_that_must_be_proven(judged.kind, judged.k)
    if must:
        clears = check.margin_low > 0 if judged.tolerance == 0 else check.margin_low >= -judged.tolerance
    else:
        clears = check.margin >= -judged.tolerance
    return replace(check, must_be_proven=must, passed=clears and judged.num_queries >= MIN_GATE_PAIRS)


def told(checks: Sequence[GateCheck], tolerance: float) -> tuple[GateCheck, ...]:
    """Checks of a task that decides nothing, with whether each measure falls on average."""
    return tuple(replace(check, must_be_proven=False, passed=check.margin >= -tolerance) for check in checks)


def best_first(ways: Sequence[WayJudged]) -> tuple[WayJudged, ...]:
    """The ways that clear, then the others; each by the deciding measure, ties to the simplest."""
    return tuple(sorted(ways, key=lambda way: (not way.clears, -_level(ways, way), SIMPLEST_FIRST.index(way.method))))


def judge(ways: Sequence[WayJudged], judged: Judged, *, new_model: GateCheck | None = None) -> GateResult:
    """The whole gate. `ways` have their measures, of which the first is the deciding one; `new_model` is the new model
    against the old one on items whose embeddings by both are known. Of several variants of a method the best one stands in
    the result; of those within a tenth of a point of the best way, the one that was given first.

    Raises:
        ValueError: there are no ways.
    """
    if not ways:
        raise ValueError("no ways to judge")
    ordered = _one_of_each_method(best_first([_checked(way, judged) for way in ways]))
    best = ordered[0]
    verdict = _verdict(best, judged, new_model)
    return GateResult(
        passed=verdict is Verdict.UPGRADE,
        num_pairs=judged.num_queries,
        k=judged.k,
        chosen=best.method,
        cosine=0.0,
        agreement={
            Method.OLD_OLD: best.checks[0].bar,
            **{way.method: way.checks[0].candidate for way in reversed(ordered)},
        },
        checks=best.checks,
        reason=verdict_texts.reason(verdict, best, judged, new_model),
        advice=verdict_texts.advice(verdict, best, judged, new_model, queries_that_would_decide(best, judged)),
        evidence=judged.kind,
        task=judged.task,
        verdict=verdict,
        gallery_rows=judged.gallery_rows,
        gallery_total=judged.gallery_total,
        ways=ordered,
        new_model=new_model,
    )


def queries_that_would_decide(way: WayJudged, judged: Judged) -> int | None:
    """Queries with which the differences seen would be proven; None where more of them cannot help.

    The distance from mean to bound shrinks with the square root of the queries: n * (half width / margin)^2.
    """
    needed = judged.num_queries
    for check in (*way.checks, *way.other_checks):
        room = check.margin + judged.tolerance
        if room < 0 or (check.must_be_proven and room <= 0):
            return None
        if check.must_be_proven and judged.num_queries >= 2:
            share = (check.margin - check.margin_low) / room
            needed = max(needed, math.ceil(judged.num_queries * share**2))
    return max(needed, MIN_GATE_PAIRS, judged.num_queries + 1)


def loses_too_much(loss: float) -> bool:
    """Whether a precision that nobody asked for by name should be given up for float32."""
    return loss > MAX_PRECISION_LOSS


def _checked(way: WayJudged, judged: Judged) -> WayJudged:
    """The way with the outcome of every check, those of the other task too."""
    return replace(
        way,
        checks=tuple(checked(check, judged) for check in way.checks),
        other_checks=tuple(checked(check, judged) for check in way.other_checks),
    )


def _one_of_each_method(ordered: Sequence[WayJudged]) -> tuple[WayJudged, ...]:
    """The first of each method, in their order."""
    first: dict[Method, WayJudged] = {}
    for way in ordered:
        first.setdefault(way.method, way)
    return tuple(first.values())


def _level(ways: Sequence[WayJudged], way: WayJudged) -> float:
    """The deciding measure; those within `TIE_MARGIN` of the best of their kind count as the best."""
    best = max(other.checks[0].candidate for other in ways if other.clears == way.clears)
    seen = way.checks[0].candidate
    return best if seen >= best - TIE_MARGIN else seen


def _verdict(best: WayJudged, judged: Judged, new_model: GateCheck | None) -> Verdict:
    if best.clears:
        enough = judged.accept_provisional or shows(judged.kind, judged.task, judged.other)
        return Verdict.UPGRADE if enough else Verdict.MORE_EVIDENCE
    if judged.num_queries < MIN_GATE_PAIRS:
        return Verdict.MORE_EVIDENCE
    if new_model is not None and new_model.margin_low > 0:
        return Verdict.BACKFILL
    if new_model is not None and new_model.margin <= 0:
        return Verdict.KEEP
    undecided = queries_that_would_decide(best, judged) is not None
    return Verdict.MORE_EVIDENCE if undecided or new_model is not None else Verdict.KEEP
