"""The variance of what maps are uncertain of, and drawing items by it."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.models.uncertainty import RIDGE, Uncertainty, drawing_keys, highest


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _random(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)


@pytest.mark.parametrize("with_side", [True, False])
def test_it_is_the_formula_in_double_precision(with_side: bool) -> None:
    pairs, items = (_random(40, 5, 0), _random(40, 3, 1)), (_random(200, 5, 2), _random(200, 3, 3))
    z_P, z_N = (
        np.concatenate([_unit(part.astype(np.float64)) for part in parts[: 1 + with_side]], axis=1)
        for parts in (pairs, items)
    )
    apart_PP = np.linalg.norm(z_P[:, None] - z_P, axis=2)
    length = np.median(apart_PP[np.triu_indices(40, 1)])
    kernel_PP = np.exp(-(apart_PP**2) / (2 * length**2)) + RIDGE * np.eye(40)
    kernel_NP = np.exp(-(np.linalg.norm(z_N[:, None] - z_P, axis=2) ** 2) / (2 * length**2))
    expected_N = 1 - np.einsum("np,pq,nq->n", kernel_NP, np.linalg.inv(kernel_PP), kernel_NP)
    uncertainty = Uncertainty(pairs[0], pairs[1] if with_side else None, seed=0)
    np.testing.assert_allclose(uncertainty(items[0], items[1] if with_side else None), expected_N, atol=2e-5)
    assert uncertainty.length == pytest.approx(length, rel=1e-5)


def test_it_is_low_beside_pairs_and_high_where_there_are_none() -> None:
    pairs = np.array([[1, 0, 0], [0.9, 0.1, 0], [1, 0.2, 0.1], [0.8, 0, 0.2]], np.float32)
    near, between, far = Uncertainty(pairs, None, seed=0)(
        np.array([[1, 0, 0.1], [1, 1, 0], [-1, 0, 0]], np.float32), None
    )
    assert near < between < far <= 1.0
    assert near < 0.1
    assert far > 0.99


def test_only_directions_count_as_old_and_side_vectors_are_compared_by_cosine() -> None:
    items = _random(30, 4, 5)
    uncertainty = Uncertainty(_random(50, 4, 4), None, seed=0)
    np.testing.assert_allclose(uncertainty(items, None), uncertainty(10 * items, None), atol=2e-6)


def test_many_pairs_are_sampled_and_the_same_seed_gives_the_same() -> None:
    pairs, items = _random(300, 4, 6), _random(5000, 4, 7)
    one, again = (Uncertainty(pairs, None, seed=3, most_pairs=50)(items, None) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.ptp(one) > 0


def test_pairs_that_are_all_the_same_are_no_reason_to_fail() -> None:
    variance = Uncertainty(np.ones((10, 3), np.float32), None, seed=0)(
        np.array([[1, 1, 1], [-1, 0, 0]], np.float32), None
    )
    assert variance[0] < 0.1 < variance[1]


def test_the_highest_keys_are_chosen_and_of_equal_ones_the_lower_ids() -> None:
    ids, variance = np.array([9, 4, 7, 1, 3]), np.array([0.5, 0.5, 0.9, 0.1, 0.5])
    assert highest(ids, variance, 3).tolist() == [3, 4, 7]
    assert highest(ids, variance, 9).tolist() == [1, 3, 4, 7, 9]


def test_items_are_drawn_with_chances_in_proportion_to_their_variance() -> None:
    """Of one draw among three items: 0.6, 0.3 and 0.1 of the times."""
    uniform = np.random.default_rng(0).random((20_000, 3))
    first = np.argmax(drawing_keys(np.array([0.6, 0.3, 0.1]), uniform), axis=1)
    np.testing.assert_allclose(np.bincount(first) / 20_000, [0.6, 0.3, 0.1], atol=0.02)
    assert np.isfinite(drawing_keys(np.array([0.0, 1.0]), np.array([0.0, 0.0]))).all()
