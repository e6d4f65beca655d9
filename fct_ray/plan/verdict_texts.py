"""The gate's sentences: what was judged by and what that can show, what came out, and what to do next.

Owns: words. Knows no arrays: measures and checks are given. Measures are shares of 1, shown with three digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct_ray.judgements import GateCheck, OtherTask, WayJudged
from fct_ray.kinds import EvidenceKind, Task, Verdict
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.tasks import shows

if TYPE_CHECKING:
    from fct_ray.plan.verdict import Judged

_WHAT = {
    EvidenceKind.QUERIES: "{queries} real queries over {gallery}",
    EvidenceKind.PSEUDO: "{queries} pseudo-queries, each another view of one item, over {gallery}",
    EvidenceKind.LABELS: "labels: {queries} items, new to what was fitted, search {gallery}",
    EvidenceKind.POOLED: "{queries} items search {gallery}, judged by the new model's similarity of what each way returns",
    EvidenceKind.HELD_OUT: "{queries} held-out pairs alone, which search each other",
}
_CANNOT = {
    EvidenceKind.QUERIES: "it shows what these queries ask for, and nothing else decides",
    EvidenceKind.PSEUDO: "it shows whether one known item is found, and an item's other view is not a person's query",
    EvidenceKind.LABELS: "it shows whether items of the same label are found; it cannot show whether one known item is",
    EvidenceKind.POOLED: "it shows whether similar items are found; it cannot show whether one known item is",
    EvidenceKind.HELD_OUT: "it is provisional: similarity among these items, not search in the whole gallery of {total}",
}
_SIMILAR_TOO = {
    EvidenceKind.LABELS: "labels show whether similar items are, which must not get worse",
    EvidenceKind.POOLED: "what the new model says of results shows whether similar items are, which must not get worse",
}
_KNOWN_ITEM = (
    "bring real queries whose relevant items you know (--queries FILE; a click log will do, 400 rows are a good start)"
)
_OR_VIEWS = (
    ", or let other views of items search, where raw items and both encoders are at hand (--views, --old-encoder)"
)
_TASKS = {Task.KNOWN_ITEM: "finding one known item", Task.SIMILAR: "finding similar items"}
_BY = {
    EvidenceKind.QUERIES: "real queries",
    EvidenceKind.PSEUDO: "pseudo-queries",
    EvidenceKind.LABELS: "labels",
    EvidenceKind.POOLED: "what the new model says of results",
    EvidenceKind.HELD_OUT: "held-out pairs",
}


def evidence_sentence(judged: Judged) -> str:
    """Which evidence was used, and what it can and cannot show."""
    gallery = f"the whole gallery of {judged.gallery_total:,}"
    if judged.gallery_rows < judged.gallery_total:
        gallery = f"a sample of {judged.gallery_rows:,} of the gallery's {judged.gallery_total:,} items"
    if judged.whole_gallery_k is not None:
        gallery += f" (the first {judged.k} of it stand for about the first {judged.whole_gallery_k:.0f} of the whole)"
    what = _WHAT[judged.kind].format(queries=f"{judged.num_queries:,}", gallery=gallery)
    shown = _CANNOT[judged.kind].format(total=f"{judged.gallery_total:,}")
    if judged.kind is EvidenceKind.PSEUDO:
        other = "it cannot show whether similar items are" if judged.other is None else _SIMILAR_TOO[judged.other]
        shown += f"; {other}"
    return f"evidence: {what}; {shown}"


def other_task_sentence(other: OtherTask) -> str:
    """What the chosen way does to the task that did not choose it, e.g. "Finding similar items, by labels ... worse)"."""
    task = _TASKS[other.task]
    role = "which must not get worse" if other.must_not_fall else "which did not decide"
    figures = ", ".join(
        f"{check.measure} {check.bar:.3f} -> {check.candidate:.3f} ({_direction(check)})" for check in other.checks
    )
    return f"{task[0].upper()}{task[1:]}, {role}, by {_BY[other.evidence]} ({other.num_queries:,} queries): {figures}."


def _direction(check: GateCheck) -> str:
    """How a measure moves, as the three digits that are shown do."""
    moved = round(check.candidate, 3) - round(check.bar, 3)
    return "the same" if moved == 0 else "better" if moved > 0 else "worse"


def name_of(way: WayJudged) -> str:
    """The way with its weights, e.g. "fused_whitened (0.5 old + 0.5 side)"."""
    return f"{way.method} ({way.variant})" if way.variant else str(way.method)


def reason(verdict: Verdict, best: WayJudged, judged: Judged, new_model: GateCheck | None) -> str:
    """The evidence, then in one sentence with every figure what came out."""
    figures = "; ".join(_figure(check) for check in best.checks)
    named = name_of(best)
    said = {
        Verdict.UPGRADE: f"passed: {named} is better than doing nothing: {figures}",
        Verdict.KEEP: f"refused: keep the old model, {_outcome(best)} ({named}): {figures}",
        Verdict.BACKFILL: f"refused: the new model is better, and {_outcome(best)} ({named}): {figures}",
        Verdict.MORE_EVIDENCE: f"refused: not decided; best was {named}: {figures}",
    }[verdict]
    if new_model is not None and verdict is not Verdict.UPGRADE:
        said += f". The new model on items whose embeddings by both are known: {_figure(new_model)}"
    return f"{evidence_sentence(judged)}. {said[0].upper()}{said[1:]}"


def advice(
    verdict: Verdict,
    best: WayJudged,
    judged: Judged,
    new_model: GateCheck | None,
    queries_needed: int | None,
) -> str:
    """What to do next, most useful first; empty where there is nothing to add to a pass."""
    said = _next(verdict, best, judged, new_model, queries_needed)
    if judged.kind is EvidenceKind.HELD_OUT and judged.uncovered_share > 0:
        said.append(
            f"{judged.uncovered_share:.0%} of the gallery lie in shards without a pair, where held-out pairs say nothing: "
            "sample pairs over the whole gallery"
        )
    return "; ".join(said)


def _next(
    verdict: Verdict, best: WayJudged, judged: Judged, new_model: GateCheck | None, queries_needed: int | None
) -> list[str]:
    if verdict is Verdict.UPGRADE:
        return _after_passing(best, judged)
    return [_after_refusal(verdict, best, judged, new_model, queries_needed)]


def _after_refusal(
    verdict: Verdict, best: WayJudged, judged: Judged, new_model: GateCheck | None, queries_needed: int | None
) -> str:
    if verdict is Verdict.BACKFILL:
        return (
            "embed the gallery again with the new model (fct-ray backfill); or store side-information with it, which makes "
            "the next upgrade cheap; or fit on more pairs, sampled from this very gallery (10 % of it recovers several "
            "times what 2 % does)"
        )
    if verdict is Verdict.KEEP:
        unknown = (
            "" if new_model is not None else f", whether the new model is better is not known here: {_new_known()}"
        )
        return f"stay with the old model{unknown}"
    if best.clears:
        return _better_evidence(judged, name_of(best))
    if judged.num_queries < MIN_GATE_PAIRS:
        return f"{judged.num_queries:,} queries are too few to judge by: bring at least {MIN_GATE_PAIRS}"
    if queries_needed is not None:
        return f"about {queries_needed:,} queries would decide it, if the differences stay"
    return f"no way is better than doing nothing; {_new_known()}"


def _new_known() -> str:
    return "embed the relevant items of some queries with the new model, as pairs, and the gate compares the two models"


def _better_evidence(judged: Judged, named: str) -> str:
    if judged.kind is EvidenceKind.PSEUDO:
        return (
            f"{named} looks better at finding one known item. If that is what people search for, say --task known-item; if "
            "they look for similar items too, give labels, or let the new model judge what is returned from the whole "
            f"gallery (--source, or wanted_ids.parquet beside the report); or {_KNOWN_ITEM}; or accept it as it is "
            "(--accept provisional)"
        )
    if judged.task is Task.SIMILAR:
        return (
            f"{named} looks better among held-out pairs, which is not proof: give labels, or let the new model judge what "
            "is returned from the whole gallery (--source, or wanted_ids.parquet beside the report), or accept it as it "
            "is (--accept provisional)"
        )
    return (
        f"{named} looks better at finding similar items. If that is what people search for, say --task similar; if they "
        f"look for one known item, {_KNOWN_ITEM}{_OR_VIEWS}; or accept it as it is (--accept provisional)"
    )


def _after_passing(best: WayJudged, judged: Judged) -> list[str]:
    lines = []
    if not shows(judged.kind, judged.task, judged.other):
        lines.append(f"accepted as provisional: {_KNOWN_ITEM} before you rely on it")
    if len(best.query_roles) > 1:
        lines.append(f"queries of this version need the embeddings {', '.join(best.query_roles)}")
    return lines


def _outcome(best: WayJudged) -> str:
    harmed = [check.measure for check in (*best.checks, *best.other_checks) if check.margin < 0]
    return f"the best way does harm in {' and '.join(harmed)}" if harmed else "no way is proven better"


def _figure(check: GateCheck) -> str:
    return (
        f"{check.measure} {check.candidate:.3f} against {check.bar:.3f} "
        f"({check.margin:+.3f}, at least {check.margin_low:+.3f} with 95 % confidence)"
    )
