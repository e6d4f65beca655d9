"""Held-out evidence against scores counted by hand on few items, and every way measured over the same queries."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.evaluation import ways
from fct_ray.evaluation.compatibility import compatibility_rows
from fct_ray.evaluation.held_out import Evidence, HeldOutItems, held_out_evidence
from fct_ray.kinds import Method, Metric

# Four items on a line in the new space; in the old one the last two have changed places.
NEW_QW = np.array([[0.0], [1.0], [3.0], [7.0]], dtype=np.float32)
OLD_QD = np.array([[0.0], [1.0], [7.0], [3.0]], dtype=np.float32)
LABELS_Q = np.array([5, 5, 8, 8])
CEILING = ways.full_backfill(NEW_QW, NEW_QW, Metric.L2)
BAR = ways.doing_nothing(OLD_QD, OLD_QD, Metric.L2)


def _evidence(*, labels: bool = True, min_labelled: int = 4) -> Evidence:
    return held_out_evidence(
        [BAR, CEILING],
        HeldOutItems(ids_Q=np.arange(4), labels_Q=LABELS_Q if labels else None),
        ceiling=CEILING,
        cosines={Method.OLD_OLD: 0.25},
        k=1,
        min_labelled=min_labelled,
    )


def test_agreement_counts_the_ceilings_own_neighbours_and_never_the_item_itself() -> None:
    """Nearest others: new 1, 0, 1, 2; old 1, 0, 3, 1. The first two agree, the third and the fourth do not."""
    scores = _evidence().scores
    np.testing.assert_array_equal(scores[Method.OLD_OLD].agreement_Q, [1, 1, 0, 0])
    np.testing.assert_array_equal(scores[Method.NEW_NEW].agreement_Q, [1, 1, 1, 1])
    assert (scores[Method.OLD_OLD].cosine, scores[Method.NEW_NEW].cosine) == (0.25, 0.0)


def test_with_labels_every_item_is_judged_by_the_one_other_of_its_label() -> None:
    """New: item 2 finds 1, 0, then 3 of its label (rank 3); item 3 finds 2 first. Old: item 2 finds 3 first; item 3 1."""
    evidence = _evidence()
    new, old = evidence.scores[Method.NEW_NEW], evidence.scores[Method.OLD_OLD]
    assert new.top1_right_Q is not None
    assert new.average_precision_Q is not None
    assert old.average_precision_Q is not None
    assert new.top1_right_Q.tolist() == [True, True, False, True]
    np.testing.assert_allclose(new.average_precision_Q, [1, 1, 1 / 3, 1])
    np.testing.assert_allclose(old.average_precision_Q, [1, 1, 1, 1 / 3])
    assert [row.method for row in evidence.rows] == ["old_old", "new_new"]
    assert evidence.rows[1].map == pytest.approx(5 / 6)


@pytest.mark.parametrize(("labels", "min_labelled"), [(False, 0), (True, 5)])
def test_without_labels_or_with_too_few_only_agreement_is_measured(labels: bool, min_labelled: int) -> None:
    evidence = _evidence(labels=labels, min_labelled=min_labelled)
    assert evidence.rows == ()
    assert evidence.scores[Method.NEW_NEW].average_precision_Q is None


def test_the_table_of_labelled_queries_measures_the_same_ways_one_at_a_time() -> None:
    rows = compatibility_rows(
        (way for way in (BAR, CEILING)),
        query_labels_Q=LABELS_Q,
        gallery_labels_G=LABELS_Q,
        query_ids_Q=np.arange(4),
        gallery_ids_G=np.arange(4),
    )
    assert rows == _evidence().rows


def test_ways_say_whose_queries_search_what() -> None:
    h = ways.transformed(Method.FCT_SIDE, NEW_QW, OLD_QD, Metric.IP, uses_side=True)
    assert (h.query, h.gallery, h.side_information) == ("new", "h(old, side)", True)
    fused = ways.fused_search(OLD_QD, NEW_QW, OLD_QD, NEW_QW)
    assert fused.gallery_GD.shape == (4, 2)
    assert fused.metric is Metric.IP
    assert ways.direct(np.zeros((2, 3), np.float32), OLD_QD, Metric.IP) is None
    assert ways.direct(NEW_QW, OLD_QD, Metric.IP) is not None
