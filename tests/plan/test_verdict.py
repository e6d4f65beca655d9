"""The gate's decision on made measures: what publishes, what never does, and what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fct_ray.judgements import GateCheck, OtherTask, WayJudged
from fct_ray.kinds import EvidenceKind, Method, QueryRole, Task, Verdict
from fct_ray.plan.tasks import shows
from fct_ray.plan.verdict import Judged, judge, loses_too_much, queries_that_would_decide, told
from fct_ray.plan.verdict_texts import other_task_sentence


def check(measure: str, candidate: float, bar: float, half_width: float = 0.02) -> GateCheck:
    margin = candidate - bar
    return GateCheck(
        measure=measure,
        candidate=candidate,
        bar=bar,
        margin=margin,
        margin_low=margin - half_width,
        margin_high=margin + half_width,
        passed=False,
    )


def way(method: Method, mrr: float, recall: float, *, half_width: float = 0.02, variant: str = "") -> WayJudged:
    return WayJudged(
        method=method,
        variant=variant,
        checks=(check("mrr", mrr, 0.70, half_width), check("recall@1", recall, 0.63, half_width)),
        query_roles=(QueryRole.NEW,),
        bytes_per_item=1536,
    )


def similar(method: Method, agreement: float, kind: EvidenceKind = EvidenceKind.HELD_OUT) -> WayJudged:
    measure = {
        EvidenceKind.HELD_OUT: "agreement@10",
        EvidenceKind.LABELS: "map",
        EvidenceKind.POOLED: "pooled_recall@10",
        EvidenceKind.PSEUDO: "mrr",
    }
    return WayJudged(
        method=method,
        variant="",
        checks=(check(measure[kind], agreement, 0.4),),
        query_roles=(QueryRole.NEW,),
        bytes_per_item=512,
    )


def judged(
    kind: EvidenceKind = EvidenceKind.QUERIES,
    *,
    task: Task | None = None,
    accept: bool = False,
    num_queries: int = 400,
    tolerance: float = 0.0,
    rows: int = 4000,
    other: EvidenceKind | None = None,
) -> Judged:
    return Judged(
        kind=kind,
        num_queries=num_queries,
        k=10,
        gallery_rows=rows,
        gallery_total=4000,
        task=task,
        accept_provisional=accept,
        tolerance=tolerance,
        other=other,
    )


def test_the_best_way_that_is_proven_better_and_worse_in_nothing_is_published() -> None:
    result = judge(
        [way(Method.FCT_SIDE, 0.52, 0.42), way(Method.FUSED_WHITENED, 0.78, 0.71), way(Method.WHITENED, 0.74, 0.66)],
        judged(),
    )
    assert (result.verdict, result.passed, result.chosen) == (Verdict.UPGRADE, True, Method.FUSED_WHITENED)
    assert [line.method for line in result.ways] == ["fused_whitened", "whitened", "fct_side"]
    assert result.agreement == {"old_old": 0.70, "fused_whitened": 0.78, "whitened": 0.74, "fct_side": 0.52}


def test_a_way_that_finds_more_in_all_but_the_right_one_first_less_often_is_not_published() -> None:
    result = judge([way(Method.FUSED_FCT, 0.76, 0.60)], judged())
    assert not result.passed
    assert "harm in recall@1" in result.reason


def test_a_way_as_good_as_doing_nothing_is_not_worth_its_cost() -> None:
    assert not judge([way(Method.WHITENED, 0.70, 0.63, half_width=0.0)], judged()).passed
    assert judge([way(Method.WHITENED, 0.70, 0.63, half_width=0.0)], judged(tolerance=0.01)).passed


@pytest.mark.parametrize("kind", [EvidenceKind.HELD_OUT, EvidenceKind.LABELS, EvidenceKind.POOLED])
@pytest.mark.parametrize("task", [None, Task.SIMILAR, Task.KNOWN_ITEM])
def test_no_evidence_publishes_what_it_cannot_show(kind: EvidenceKind, task: Task | None) -> None:
    result = judge([similar(Method.FCT_SIDE, 0.9, kind)], judged(kind, task=task))
    can_show = kind is not EvidenceKind.HELD_OUT and task is Task.SIMILAR
    assert shows(kind, task) is result.passed is can_show
    assert result.verdict is (Verdict.UPGRADE if can_show else Verdict.MORE_EVIDENCE)
    if not can_show:
        assert "--accept provisional" in result.advice
    accepted = judge([similar(Method.FCT_SIDE, 0.9, kind)], judged(kind, task=task, accept=True))
    assert accepted.passed


def both(method: Method, mrr: float, similar_map: float) -> WayJudged:
    """A way by pseudo-queries (doing nothing: .70) and by labels (doing nothing: .50)."""
    return replace(way(method, mrr, 0.7), other_checks=(check("map", similar_map, 0.5),))


@pytest.mark.parametrize(
    ("task", "other", "publishes"),
    [
        (Task.KNOWN_ITEM, None, True),
        (None, None, False),
        (None, EvidenceKind.LABELS, True),
        (None, EvidenceKind.POOLED, True),
        (Task.SIMILAR, None, False),
    ],
)
def test_pseudo_queries_publish_for_known_items_and_with_other_evidence_for_both_tasks(
    task: Task | None, other: EvidenceKind | None, publishes: bool
) -> None:
    better = both(Method.FUSED, 0.8, 0.6) if other else way(Method.FUSED, 0.8, 0.7)
    result = judge([better], judged(EvidenceKind.PSEUDO, task=task, other=other))
    assert result.passed is publishes
    assert result.verdict is (Verdict.UPGRADE if publishes else Verdict.MORE_EVIDENCE)
    if task is None and other is None:
        assert "--task known-item" in result.advice
        assert "give labels" in result.advice
        accepted = judge([better], judged(EvidenceKind.PSEUDO, task=task, accept=True))
        assert accepted.passed
        assert "accepted as provisional" in accepted.advice


def test_where_both_tasks_are_asked_for_a_way_that_harms_one_is_not_published() -> None:
    by_both = judged(EvidenceKind.PSEUDO, other=EvidenceKind.LABELS)
    harms = both(Method.FCT_SIDE, 0.9, 0.49)
    refused = judge([harms], by_both)
    assert not refused.passed
    assert "harm in map" in refused.reason
    assert [line.clears for line in refused.ways] == [False]
    assert judge([harms, both(Method.FUSED, 0.8, 0.5)], by_both).chosen is Method.FUSED
    assert judge([harms], replace(by_both, tolerance=0.02)).passed
    assert queries_that_would_decide(harms, by_both) is None


def test_the_other_task_is_told_in_one_sentence() -> None:
    checks = (check("map", 0.38, 0.41), check("top1", 0.6, 0.5), check("similarity@10", 0.7001, 0.7004))
    other = OtherTask(task=Task.SIMILAR, evidence=EvidenceKind.LABELS, num_queries=500, checks=checks)
    assert other_task_sentence(other) == (
        "Finding similar items, which did not decide, by labels (500 queries): map 0.410 -> 0.380 (worse), "
        "top1 0.500 -> 0.600 (better), similarity@10 0.700 -> 0.700 (the same)."
    )
    assert "which must not get worse" in other_task_sentence(replace(other, must_not_fall=True))
    assert [one.passed for one in told(checks, 0.0)] == [False, True, False]


def test_pseudo_queries_say_that_they_are_not_what_people_ask() -> None:
    better = way(Method.FUSED, 0.8, 0.7)
    alone = judge([better], judged(EvidenceKind.PSEUDO, task=Task.KNOWN_ITEM)).reason
    assert alone.startswith(
        "evidence: 400 pseudo-queries, each another view of one item, over the whole gallery of 4,000; "
    )
    assert "an item's other view is not a person's query; it cannot show whether similar items are" in alone
    with_labels = judge([both(Method.FUSED, 0.8, 0.6)], judged(EvidenceKind.PSEUDO, other=EvidenceKind.LABELS)).reason
    assert "labels show whether similar items are, which must not get worse" in with_labels


def test_accepting_provisional_evidence_publishes_no_harm_that_it_sees() -> None:
    result = judge([similar(Method.FCT_SIDE, 0.3)], judged(EvidenceKind.HELD_OUT, accept=True))
    assert result.verdict is Verdict.KEEP


def test_where_no_way_helps_the_new_model_decides_between_a_backfill_and_the_old_one() -> None:
    ways = [way(Method.LINEAR_SIDE, 0.5, 0.4)]
    better, worse = check("mrr", 0.80, 0.70), check("mrr", 0.60, 0.70)
    assert judge(ways, judged(), new_model=better).verdict is Verdict.BACKFILL
    assert judge(ways, judged(), new_model=worse).verdict is Verdict.KEEP
    assert judge(ways, judged(), new_model=check("mrr", 0.71, 0.70)).verdict is Verdict.MORE_EVIDENCE
    unknown = judge(ways, judged())
    assert unknown.verdict is Verdict.KEEP
    assert "not known" in unknown.advice


def test_too_few_queries_ask_for_more() -> None:
    few = judge([way(Method.WHITENED, 0.9, 0.9)], judged(num_queries=29))
    assert few.verdict is Verdict.MORE_EVIDENCE
    assert "at least 30" in few.advice


def test_what_is_better_but_not_proven_says_how_many_queries_would_prove_it() -> None:
    close = way(Method.WHITENED, 0.71, 0.64, half_width=0.02)
    result = judge([close], judged(num_queries=400))
    assert result.verdict is Verdict.MORE_EVIDENCE
    assert "about 1,600 queries" in result.advice  # the half width must halve: 400 * (0.02 / 0.01)^2
    assert queries_that_would_decide(way(Method.WHITENED, 0.6, 0.7), judged()) is None


def test_ties_go_to_the_simplest() -> None:
    ways = [
        way(Method.FUSED_FCT, 0.7805, 0.71),
        way(Method.FUSED_WHITENED, 0.78, 0.71),
        way(Method.FCT_SIDE, 0.7805, 0.7),
    ]
    assert judge(ways, judged()).chosen is Method.FUSED_WHITENED


def test_of_two_variants_the_one_that_clears_stands_and_within_a_tenth_of_a_point_the_first() -> None:
    plain, kept = (
        way(Method.LINEAR_SIDE, 0.76, 0.66),
        way(Method.LINEAR_SIDE, 0.77, 0.66, half_width=0.2, variant="kept"),
    )
    assert judge([plain, kept], judged()).ways == judge([plain], judged()).ways, "the better mean is not proven"
    for better, stands in ((0.7604, ""), (0.7700, "kept")):
        result = judge([plain, way(Method.LINEAR_SIDE, better, 0.66, variant="kept")], judged())
        assert [line.variant for line in result.ways] == [stands]


def test_the_first_sentence_says_what_was_used_and_what_it_cannot_show() -> None:
    real = judge([way(Method.FUSED, 0.8, 0.7)], judged()).reason
    assert real.startswith("evidence: 400 real queries over the whole gallery of 4,000; ")
    sample = judge([similar(Method.FCT_SIDE, 0.9, EvidenceKind.LABELS)], judged(EvidenceKind.LABELS, rows=1000)).reason
    assert "a sample of 1,000 of the gallery's 4,000 items" in sample
    assert "cannot show whether one known item is" in sample
    alone = judge([similar(Method.FCT_SIDE, 0.9)], judged(EvidenceKind.HELD_OUT)).reason
    assert "provisional" in alone


def test_half_a_point_is_too_much_for_speed_that_nobody_asked_for() -> None:
    assert loses_too_much(0.006)
    assert not loses_too_much(0.005)
