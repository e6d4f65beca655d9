"""Pooled judgement by hand on a line: who returned what is truly near."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation.label_evidence import label_measures
from fct_ray.evaluation.pooled import pool_ids, pooled_measures, top_lists
from fct_ray.evaluation.ways import WayToSearch, doing_nothing
from fct_ray.kinds import Method, Metric

QUERY_QW = np.array([[0.0], [10.0]], np.float32)
POOL_P = np.array([40, 10, 20, 30])
NEW_PW = np.array([[4.0], [1.0], [2.0], [3.0]], np.float32)
LISTS = {
    "good": np.array([[10, 20, 40], [40, 30, -1]]),
    "poor": np.array([[40, 30, 10], [-1, -1, -1]]),
}


def _way(query: object, gallery: object, metric: Metric) -> WayToSearch:
    return doing_nothing(np.asarray(query, np.float32), np.asarray(gallery, np.float32), metric)


def test_ways_are_judged_by_the_distance_of_what_they_returned() -> None:
    """Query 0: items at 1, 2, 3, 4. Query 1: the pool is items at distance 6 and 7; missing ones count as 7 away."""
    found = pooled_measures(LISTS, QUERY_QW, POOL_P, NEW_PW, metric=Metric.L2, k=2)
    assert found["good"]["pooled_recall@2"].tolist() == [1, 1]
    assert found["poor"]["pooled_recall@2"].tolist() == [0, 0]
    assert found["good"]["similarity@2"].tolist() == [-1.5, -6.5]
    assert found["poor"]["similarity@2"].tolist() == [-3.5, -7]
    assert pooled_measures(LISTS, QUERY_QW, POOL_P, NEW_PW, metric=Metric.L2, k=3)["poor"][
        "pooled_recall@3"
    ].tolist() == [pytest.approx(2 / 3), 0]


def test_similarity_is_the_cosine_of_embeddings_of_length_1() -> None:
    new_PW = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
    lists = {Method.OLD_OLD: np.array([[2, 3]]), Method.FUSED: np.array([[1, 3]])}
    found = pooled_measures(lists, new_PW[:1], np.array([1, 2, 3]), new_PW, metric=Metric.IP, k=2)
    np.testing.assert_allclose(found[Method.OLD_OLD]["similarity@2"], [0.3], rtol=1e-6)
    np.testing.assert_allclose(found[Method.FUSED]["similarity@2"], [0.5], rtol=1e-6)
    assert [found[name]["pooled_recall@2"][0] for name in lists] == [0.5, 0.5]


def test_items_as_good_as_the_last_of_the_best_count_like_it() -> None:
    """Items 1 and 2 are equal copies: whoever returns either has found the best."""
    new_PW = np.array([[1.0], [1.0], [0.2]], np.float32)
    lists = {"a": np.array([[1]]), "b": np.array([[2]]), "c": np.array([[3]])}
    found = pooled_measures(lists, np.ones((1, 1), np.float32), np.array([1, 2, 3]), new_PW, metric=Metric.IP, k=1)
    assert [found[name]["pooled_recall@1"][0] for name in "abc"] == [1, 1, 0]


def test_a_query_for_which_nobody_returned_anything_is_not_judged() -> None:
    found = pooled_measures({"a": np.full((2, 1), -1)}, QUERY_QW, POOL_P, NEW_PW, metric=Metric.L2, k=1)
    assert np.isnan(found["a"]["pooled_recall@1"]).all()
    assert np.isnan(found["a"]["similarity@1"]).all()


def test_top_lists_name_items_and_leave_the_querys_own_out() -> None:
    line_GD = [[0.0], [1.0], [3.0]]
    ids_G = np.array([30, 10, 20])
    way = _way(line_GD[:2], line_GD, Metric.L2)
    assert top_lists(way, ids_G, np.array([30, 10]), 2).tolist() == [[10, 20], [30, 20]]
    assert top_lists(way, ids_G, np.array([30, 10]), 4).tolist() == [[10, 20, -1, -1], [30, 20, -1, -1]]
    assert top_lists(way, ids_G, None, 2).tolist() == [[30, 10], [10, 30]]
    assert top_lists(_way([[0.0]], [[1.0]], Metric.L2), np.array([5]), np.array([5]), 1).tolist() == [[-1]]
    with pytest.raises(SettingsError, match="k is 0"):
        top_lists(way, ids_G, None, 0)


def test_the_pool_is_every_id_once() -> None:
    assert pool_ids(LISTS.values()).tolist() == [10, 20, 30, 40]
    assert pool_ids([]).tolist() == []


def test_pooled_items_without_an_embedding_are_named() -> None:
    with pytest.raises(DataError, match=r"pooled id 10 has no new embedding \(1 of 4"):
        pooled_measures(LISTS, QUERY_QW, POOL_P[[0, 2, 3]], NEW_PW[:3], metric=Metric.L2, k=2)
    with pytest.raises(DataError, match="pooled id 40 has two"):
        pooled_measures(LISTS, QUERY_QW, POOL_P[[0, 0, 1, 2]], NEW_PW, metric=Metric.L2, k=2)
    with pytest.raises(SettingsError, match="wanted 2 queries with 4 or more"):
        pooled_measures(LISTS, QUERY_QW, POOL_P, NEW_PW, metric=Metric.L2, k=4)
    with pytest.raises(SettingsError, match="all of one dimension"):
        pooled_measures(LISTS, np.zeros((2, 3), np.float32), POOL_P, NEW_PW, metric=Metric.L2, k=2)
    with pytest.raises(SettingsError, match="0 ways"):
        pooled_measures({}, QUERY_QW, POOL_P, NEW_PW, metric=Metric.L2, k=2)


def test_labels_judge_every_query_in_its_place() -> None:
    """From 1 the other 5 comes after the 6 at 1; the 6 has no other; 9 is at hand but not its own twin."""
    line_GD = np.array([[0.0], [1.0], [3.0], [9.0], [9.5]])
    labels_G = np.array([5, 6, 5, 7, 7])
    way = _way(line_GD[[3, 1, 0]], line_GD, Metric.L2)
    found = label_measures(way, labels_G[[3, 1, 0]], labels_G, np.array([3, 1, 0]), np.arange(5))
    np.testing.assert_array_equal(found["map"], [1, np.nan, 0.5])
    np.testing.assert_array_equal(found["top1"], [1, np.nan, 0])
    stranger = label_measures(_way([[0.1]], line_GD, Metric.L2), np.array([5]), labels_G, None, np.arange(5))
    np.testing.assert_allclose(stranger["map"], [(1 + 2 / 3) / 2])
