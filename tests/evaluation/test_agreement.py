"""Top-k against a stable sort, agreement by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import SettingsError
from fct_ray.evaluation.agreement import neighbour_agreement, top_k
from fct_ray.kinds import Metric


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("k", [1, 10, 39, 40])
def test_top_k_is_the_head_of_the_stable_ranking(metric: Metric, k: int) -> None:
    rng = np.random.default_rng(k)
    query_QD = rng.integers(-2, 3, (30, 4)).astype(np.float32)
    gallery_GD = rng.integers(-2, 3, (40, 4)).astype(np.float32)
    if metric is Metric.IP:
        cost_QG = -(query_QD @ gallery_GD.T)
    else:
        cost_QG = ((query_QD[:, None] - gallery_GD[None]) ** 2).sum(axis=2)
    expected_QK = np.argsort(cost_QG, axis=1, kind="stable")[:, :k]
    assert np.array_equal(top_k(query_QD, gallery_GD, k, metric=metric), expected_QK)


def test_an_item_is_not_its_own_neighbour() -> None:
    embeddings_ND = np.array([[0.0], [1.0], [3.0]], np.float32)
    ids_N = np.array([30, 10, 20])
    found_QK = top_k(embeddings_ND, embeddings_ND, 2, metric=Metric.L2, query_ids_Q=ids_N, gallery_ids_G=ids_N)
    assert found_QK.tolist() == [[1, 2], [0, 2], [1, 0]]
    with pytest.raises(SettingsError, match="between 1 and the 2 gallery items"):
        top_k(embeddings_ND, embeddings_ND, 3, metric=Metric.L2, query_ids_Q=ids_N, gallery_ids_G=ids_N)


def test_agreement_is_the_share_of_reference_neighbours_found() -> None:
    reference_QK = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, -1, -1]])
    candidate_QK = np.array([[4, 3, 9, 8], [5, 6, 7, 8], [2, -1, -1, -1]])
    assert neighbour_agreement(reference_QK, candidate_QK).tolist() == [0.5, 0.0, 0.5]


def test_agreement_of_a_query_without_reference_is_refused() -> None:
    with pytest.raises(SettingsError, match="query 1 has no reference"):
        neighbour_agreement(np.array([[1], [-1]]), np.array([[1], [1]]))
    with pytest.raises(SettingsError, match="same queries"):
        neighbour_agreement(np.array([[1]]), np.array([[1], [1]]))
