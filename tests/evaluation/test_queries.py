"""Measures of real queries against ranks and sums by hand, ties against the way, samples said honestly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation import item_ranks as ranking
from fct_ray.evaluation.item_ranks import item_ranks
from fct_ray.evaluation.queries import (
    JudgedQueries,
    measures_of_ranks,
    query_measures,
    whole_gallery_k,
)
from fct_ray.evaluation.ways import WayToSearch, doing_nothing
from fct_ray.kinds import Metric


def _way(query: object, gallery: object, metric: Metric = Metric.IP) -> WayToSearch:
    return doing_nothing(np.asarray(query, np.float32), np.asarray(gallery, np.float32), metric)


@pytest.mark.parametrize("metric", list(Metric))
def test_ranks_are_those_of_a_sorted_gallery(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and many relevant items per query, several blocks, own items left out."""
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 200)
    rng = np.random.default_rng(3)
    query_QD, gallery_GD = rng.standard_normal((12, 5)), rng.standard_normal((60, 5))
    ids_G = rng.permutation(1000)[:60]
    relevant = [rng.permutation(ids_G)[: (30 if query % 2 else 3)].tolist() for query in range(12)]
    own_Q = rng.permutation(ids_G)[:12]
    queries = JudgedQueries.of(relevant)
    found_R = item_ranks(
        _way(query_QD, gallery_GD, metric), ids_G, queries.relevant_offsets_Q1, queries.relevant_ids_R, own_ids_Q=own_Q
    )
    expected = []
    for query in range(12):
        cost_G = -(gallery_GD @ query_QD[query])
        if metric is Metric.L2:
            cost_G = ((gallery_GD - query_QD[query]) ** 2).sum(axis=1)
        order = [item for item in ids_G[np.argsort(cost_G)].tolist() if item != own_Q[query]]
        expected += [order.index(item) + 1 if item in order else 0 for item in relevant[query]]
    assert found_R.tolist() == expected


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("size", [37, 4099])
def test_a_way_that_gives_every_item_the_same_vector_finds_nothing(metric: Metric, size: int) -> None:
    """Relevant items first in the gallery: an order that would make such a way perfect."""
    rng = np.random.default_rng(0)
    way = _way(rng.standard_normal((4, 64)), np.tile(rng.standard_normal(64), (size, 1)), metric)
    measures = query_measures(way, np.arange(size), JudgedQueries.of([[0], [1, 2], [5], list(range(20))]))
    assert [measures["recall@1"].max(), measures["recall@10"].max(), measures["ndcg@10"].max()] == [0, 0, 0]


def test_tied_items_come_before_the_relevant_one() -> None:
    """Scores 1, 1, 1, 0: item 0 shares the best score with two others and is third."""
    way = _way([[1.0]], [[1.0], [1.0], [1.0], [0.0]])
    assert item_ranks(way, np.arange(4), np.array([0, 1]), np.array([0])).tolist() == [3]
    assert item_ranks(way, np.arange(4), np.array([0, 2]), np.array([0, 1])).tolist() == [2, 3]


def test_measures_by_hand() -> None:
    """Graded 3 and 1 at ranks 2 and 12; known item at rank 1; nothing in the first hundred."""
    queries = JudgedQueries.of([[-7, 8], [9], [10]], [[3.0, 1.0], [1.0], [1.0]])
    measures = measures_of_ranks(np.array([2, 12, 1, 101]), queries)
    assert measures["recall@1"].tolist() == [0, 1, 0]
    assert measures["recall@10"].tolist() == [0.5, 1, 0]
    assert measures["mrr"].tolist() == [0.5, 1, 0]
    best = 3 + 1 / math.log2(3)
    np.testing.assert_allclose(measures["ndcg@10"], [3 / math.log2(3) / best, 1, 0])
    assert list(measures_of_ranks(np.array([1, 2, 1, 1]), queries, k=1)) == ["recall@1", "mrr", "ndcg@1"]


def test_fractional_grades_count_in_proportion() -> None:
    halves = JudgedQueries.of([[1, 2], [3, 4]], [[0.5, 0.25], [2e-9, 1e-9]])
    whole = JudgedQueries.of([[1, 2], [3, 4]], [[2.0, 1.0], [2.0, 1.0]])
    ranks_R = np.array([3, 1, 2, 1])
    np.testing.assert_allclose(
        measures_of_ranks(ranks_R, halves)["ndcg@10"], measures_of_ranks(ranks_R, whole)["ndcg@10"]
    )


def test_a_query_whose_relevant_items_the_gallery_lacks_is_not_judged() -> None:
    way = _way([[1.0], [1.0], [1.0]], [[1.0], [0.5]])
    measures = query_measures(
        way, np.array([4, 5]), JudgedQueries.of([[99], [4, 99], [4]]), own_ids=np.array([0, 0, 4])
    )
    np.testing.assert_array_equal(measures["recall@10"], [np.nan, 1, np.nan])
    assert int(np.isnan(measures["mrr"]).sum()) == 2
    assert np.isnan(query_measures(way, np.array([1, 2]), JudgedQueries.of([[9], [9], [9]]))["mrr"]).all()


def test_queries_are_taken_by_position() -> None:
    queries = JudgedQueries.of([[1], [2, 3], [4]], [[1.0], [2.0, 3.0], [4.0]], ids=["a", "b", "c"], groups=[0, 1, 2])
    taken = queries.take([2, 1])
    assert taken.ids_Q.tolist() == ["c", "b"]
    assert taken.relevant_offsets_Q1.tolist() == [0, 1, 3]
    assert (taken.relevant_ids_R.tolist(), taken.grades_R.tolist()) == ([4, 2, 3], [4, 2, 3])
    assert taken.groups_Q is not None
    assert taken.groups_Q.tolist() == [2, 1]
    assert len(queries.take([])) == 0


def test_unusable_judgements_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"query b \(row 1\) has no relevant item"):
        JudgedQueries.of([[1], []], ids=["a", "b"])
    with pytest.raises(DataError, match=r"row 0\): a grade is 0.0"):
        JudgedQueries.of([[1]], [[0.0]])
    with pytest.raises(DataError, match="lists item 7 twice"):
        JudgedQueries.of([[7], [7, 8, 7]])
    with pytest.raises(SettingsError, match="unequal lengths"):
        JudgedQueries.of([[1]], [[1.0, 2.0]])
    with pytest.raises(SettingsError, match="1 groups for 2 queries"):
        JudgedQueries.of([[1], [2]], groups=[0])


def test_shapes_and_k_are_checked() -> None:
    way, queries = _way([[1.0, 0.0]], [[1.0], [0.5]]), JudgedQueries.of([[1]])
    with pytest.raises(SettingsError, match="2 dimensions and the gallery 1"):
        query_measures(way, np.arange(2), queries)
    with pytest.raises(SettingsError, match="judgements of 1 queries for 2"):
        query_measures(_way([[1.0], [2.0]], [[1.0]]), np.arange(1), queries)
    with pytest.raises(SettingsError, match="k is 101"):
        query_measures(_way([[1.0]], [[1.0]]), np.arange(1), queries, k=101)


def test_the_rank_of_a_sample_stands_for_the_rank_of_the_whole() -> None:
    """One relevant item that beats 70 % of 20,000 items, samples of a tenth: the mean rank follows the rule."""
    assert whole_gallery_k(10, 0.1) == pytest.approx(91)
    rng = np.random.default_rng(1)
    whole = 1 + 6_000
    sampled = [1 + rng.hypergeometric(6_000, 14_000, 2_000) for _ in range(200)]
    assert np.mean([whole_gallery_k(int(rank), 0.1) for rank in sampled]) == pytest.approx(whole, rel=0.01)
    with pytest.raises(SettingsError, match="share 0"):
        whole_gallery_k(10, 0)
