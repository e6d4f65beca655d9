"""Held-out evidence against scores counted by hand on few items, and every way measured over the same queries."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.evaluation import ways
from fct_ray.evaluation.compatibility import compatibility_rows
from fct_ray.evaluation.held_out import HeldOutItems, HeldOutMeasures
from fct_ray.kinds import Metric

# Four items on a line in the new space; in the old one the last two have changed places.
NEW_QW = np.array([[0.0], [1.0], [3.0], [7.0]], dtype=np.float32)
OLD_QD = np.array([[0.0], [1.0], [7.0], [3.0]], dtype=np.float32)
LABELS_Q = np.array([5, 5, 8, 8])
CEILING = ways.full_backfill(NEW_QW, NEW_QW, Metric.L2)
BAR = ways.doing_nothing(OLD_QD, OLD_QD, Metric.L2)


def _measures(*, labels: bool = True, min_labelled: int = 4) -> HeldOutMeasures:
    items = HeldOutItems(ids_Q=np.arange(4), labels_Q=LABELS_Q if labels else None)
    return HeldOutMeasures(items, ceiling=CEILING, k=1, min_labelled=min_labelled)


def test_agreement_counts_the_ceilings_own_neighbours_and_never_the_item_itself() -> None:
    """Nearest others: new 1, 0, 1, 2; old 1, 0, 3, 1. The first two agree, the third and the fourth do not."""
    measures = _measures()
    np.testing.assert_array_equal(measures(BAR)["agreement@1"], [1, 1, 0, 0])
    np.testing.assert_array_equal(measures(CEILING)["agreement@1"], [1, 1, 1, 1])


def test_with_labels_every_item_is_judged_by_the_one_other_of_its_label() -> None:
    """New: item 2 finds 1, 0, then 3 of its label (rank 3); item 3 finds 2 first. Old: item 2 finds 3 first; item 3 1."""
    measures = _measures()
    old, new = measures(BAR), measures(CEILING)
    assert new["top1"].tolist() == [1, 1, 0, 1]
    np.testing.assert_allclose(new["map"], [1, 1, 1 / 3, 1])
    np.testing.assert_allclose(old["map"], [1, 1, 1, 1 / 3])
    assert [row.method for row in measures.rows] == ["old_old", "new_new"]
    assert measures.rows[1].map == pytest.approx(5 / 6)


@pytest.mark.parametrize(("labels", "min_labelled"), [(False, 0), (True, 5)])
def test_without_labels_or_with_too_few_only_agreement_is_measured(labels: bool, min_labelled: int) -> None:
    measures = _measures(labels=labels, min_labelled=min_labelled)
    assert list(measures(CEILING)) == ["agreement@1"]
    assert measures.rows == []


def test_the_table_of_labelled_queries_measures_the_same_ways_one_at_a_time() -> None:
    rows = compatibility_rows(
        (way for way in (BAR, CEILING)),
        query_labels_Q=LABELS_Q,
        gallery_labels_G=LABELS_Q,
        query_ids_Q=np.arange(4),
        gallery_ids_G=np.arange(4),
    )
    measures = _measures()
    measures(BAR), measures(CEILING)
    assert list(rows) == measures.rows


def test_ways_say_whose_queries_search_what() -> None:
    assert ways.direct(np.zeros((2, 3), np.float32), OLD_QD, Metric.IP) is None
    assert ways.direct(NEW_QW, OLD_QD, Metric.IP) is not None
