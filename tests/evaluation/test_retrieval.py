"""Retrieval measures against hand-computed values, a plain loop, and scikit-learn's average precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation import ranking
from fct_ray.evaluation.retrieval import per_query, retrieval_quality
from fct_ray.kinds import Metric


def loop_measures(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    query_labels_Q: NDArray[Any],
    gallery_labels_G: NDArray[Any],
    metric: Metric,
    query_ids_Q: NDArray[np.int64] | None,
    gallery_ids_G: NDArray[np.int64] | None,
) -> dict[int, tuple[bool, bool, float]]:
    """The definitions, one query and one item at a time, in float64."""
    measures = {}
    for q, query_D in enumerate(query_QD.astype(np.float64)):
        scored = []
        for g, item_D in enumerate(gallery_GD.astype(np.float64)):
            if query_ids_Q is not None and gallery_ids_G is not None and query_ids_Q[q] == gallery_ids_G[g]:
                continue
            score = query_D @ item_D if metric is Metric.IP else -((query_D - item_D) ** 2).sum()
            scored.append((-score, g))
        relevant = [gallery_labels_G[g] == query_labels_Q[q] for _, g in sorted(scored)]
        if any(relevant):
            precisions = [sum(relevant[: i + 1]) / (i + 1) for i, hit in enumerate(relevant) if hit]
            measures[q] = (relevant[0], any(relevant[:5]), sum(precisions) / len(precisions))
    return measures


def test_a_ranking_worked_out_by_hand() -> None:
    gallery_GD = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    result = per_query(np.ones((1, 1), np.float32), gallery_GD, [7], [1, 7, 1, 7], metric=Metric.IP)
    # ranks of the relevant items: 2 and 4; AP = (1/2 + 2/4) / 2
    assert result.average_precision_Q.tolist() == [0.5]
    assert result.top1_Q.tolist() == [False]
    assert result.top5_Q.tolist() == [True]


def test_a_relevant_item_at_rank_six_misses_the_top_five() -> None:
    gallery_GD = -np.arange(8, dtype=np.float32)[:, None]
    labels = ["no", "no", "no", "no", "no", "yes", "no", "no"]
    result = per_query(np.ones((1, 1), np.float32), gallery_GD, ["yes"], labels, metric=Metric.IP)
    assert not result.top5_Q[0]
    assert result.average_precision_Q[0] == pytest.approx(1 / 6)


def test_ties_are_ranked_in_gallery_order() -> None:
    gallery_GD = np.zeros((4, 2), np.float32)
    gallery_GD[1] = -0.0
    result = per_query(np.ones((2, 2), np.float32), gallery_GD, [0, 1], [0, 1, 1, 0], metric=Metric.IP)
    assert result.top1_Q.tolist() == [True, False]
    assert result.average_precision_Q.tolist() == pytest.approx([(1 + 2 / 4) / 2, (1 / 2 + 2 / 3) / 2])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_queries=st.integers(1, 12),
    num_gallery=st.integers(1, 40),
    num_classes=st.integers(1, 8),
    metric=st.sampled_from(list(Metric)),
    with_ids=st.booleans(),
)
def test_every_measure_equals_the_plain_loop(
    seed: int, num_queries: int, num_gallery: int, num_classes: int, metric: Metric, with_ids: bool
) -> None:
    rng = np.random.default_rng(seed)
    # small integers: exact in float32, and full of ties
    query_QD = rng.integers(-2, 3, (num_queries, 3)).astype(np.float32)
    gallery_GD = rng.integers(-2, 3, (num_gallery, 3)).astype(np.float32)
    query_labels_Q = rng.integers(0, num_classes, num_queries)
    gallery_labels_G = rng.integers(0, num_classes, num_gallery)
    query_ids_Q = rng.permutation(60)[:num_queries] if with_ids else None
    gallery_ids_G = rng.permutation(60)[:num_gallery] if with_ids else None
    result = per_query(
        query_QD, gallery_GD, query_labels_Q, gallery_labels_G,
        metric=metric, query_ids_Q=query_ids_Q, gallery_ids_G=gallery_ids_G,
    )  # fmt: skip
    expected = loop_measures(query_QD, gallery_GD, query_labels_Q, gallery_labels_G, metric, query_ids_Q, gallery_ids_G)
    assert result.queries_Q.tolist() == sorted(expected)
    assert result.num_without_relevant == num_queries - len(expected)
    assert result.top1_Q.tolist() == [expected[q][0] for q in sorted(expected)]
    assert result.top5_Q.tolist() == [expected[q][1] for q in sorted(expected)]
    assert result.average_precision_Q.tolist() == pytest.approx([expected[q][2] for q in sorted(expected)])


def test_average_precision_equals_scikit_learn_where_no_scores_tie() -> None:
    rng = np.random.default_rng(3)
    query_QD = rng.standard_normal((20, 16)).astype(np.float32)
    gallery_GD = rng.standard_normal((300, 16)).astype(np.float32)
    query_labels_Q, gallery_labels_G = rng.integers(0, 10, 20), rng.integers(0, 10, 300)
    result = per_query(query_QD, gallery_GD, query_labels_Q, gallery_labels_G, metric=Metric.IP)
    for q in range(20):
        scores_G = gallery_GD.astype(np.float64) @ query_QD[q].astype(np.float64)
        expected = average_precision_score(gallery_labels_G == query_labels_Q[q], scores_G)
        assert result.average_precision_Q[q] == pytest.approx(expected, abs=1e-6)


def test_a_query_does_not_find_itself_in_its_own_gallery() -> None:
    embeddings_ND = np.array([[1, 0], [0, 1], [0.1, 0.9]], np.float32)
    ids_N, labels_N = np.array([5, 6, 7]), [0, 1, 1]
    result = per_query(
        embeddings_ND, embeddings_ND, labels_N, labels_N, metric=Metric.L2, query_ids_Q=ids_N, gallery_ids_G=ids_N
    )
    # item 5 is alone in its class: without itself it has nothing relevant
    assert result.queries_Q.tolist() == [1, 2]
    assert result.num_without_relevant == 1
    assert result.top1_Q.all()


def test_many_blocks_give_the_same_result_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    # small integers: the products are exact in any order of summation
    query_QD = rng.integers(-3, 4, (50, 8)).astype(np.float32)
    gallery_GD = rng.integers(-3, 4, (70, 8)).astype(np.float32)
    labels_Q, labels_G = rng.integers(0, 5, 50), rng.integers(0, 5, 70)
    whole = per_query(query_QD, gallery_GD, labels_Q, labels_G, metric=Metric.L2)
    monkeypatch.setattr(ranking, "BLOCK_KEYS", 7 * 70)
    blocks = per_query(query_QD, gallery_GD, labels_Q, labels_G, metric=Metric.L2)
    assert np.array_equal(whole.average_precision_Q, blocks.average_precision_Q)
    assert np.array_equal(whole.top1_Q, blocks.top1_Q)


def test_quality_is_the_mean_over_evaluated_queries() -> None:
    gallery_GD = np.array([[0.9], [0.8]], np.float32)
    quality = retrieval_quality(np.ones((3, 1), np.float32), gallery_GD, [0, 1, 9], [0, 1], metric=Metric.IP)
    assert (quality.top1, quality.top5, quality.map) == (0.5, 1.0, 0.75)


def test_queries_without_any_relevant_item_are_refused() -> None:
    with pytest.raises(SettingsError, match="none of the 1 queries"):
        retrieval_quality(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), [0], [1], metric=Metric.IP)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_has_no_place_in_a_ranking_is_refused_with_its_row(value: float) -> None:
    gallery_GD = np.ones((3, 2), np.float32)
    gallery_GD[2, 1] = value
    with pytest.raises(DataError, match="gallery row 2"):
        per_query(np.ones((1, 2), np.float32), gallery_GD, [0], [0, 0, 0], metric=Metric.IP)


def test_what_does_not_fit_is_refused() -> None:
    one, two = np.ones((1, 1), np.float32), np.ones((1, 2), np.float32)
    with pytest.raises(SettingsError, match="1 dimensions and the gallery 2"):
        per_query(one, two, [0], [0], metric=Metric.IP)
    with pytest.raises(SettingsError, match="one label per embedding"):
        per_query(one, one, [0, 1], [0], metric=Metric.IP)
    with pytest.raises(SettingsError, match="only one side"):
        per_query(one, one, [0], [0], metric=Metric.IP, query_ids_Q=np.array([1]))
    with pytest.raises(SettingsError, match="both strings"):
        per_query(one, one, ["0"], [0], metric=Metric.IP)
    with pytest.raises(DataError, match="id 4 occurs more than once"):
        per_query(
            one, np.ones((2, 1), np.float32), [0], [0, 0],
            metric=Metric.IP, query_ids_Q=np.array([1]), gallery_ids_G=np.array([4, 4]),
        )  # fmt: skip
