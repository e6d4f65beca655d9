"""Moments add up in any grouping; whitening is the plain formula, and drops what has no variance."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import FitError, SettingsError
from fct_ray.models.whitening import EIGENVALUE_FLOOR, Moments, whitening


def _rows(count: int = 400, dimensions: int = 5) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + 3.0


def test_moments_of_parts_add_up_to_those_of_the_whole_in_any_grouping() -> None:
    rows = _rows(403) + 1e4  # a mean that would drown the variance in raw sums of float32
    a, b, c, none = (Moments.of(part) for part in (rows[:7], rows[7:300], rows[300:], rows[:0]))
    for total in ((a + b) + c, a + (b + c), c + a + none + b, none + (b + c) + a):
        assert total.count == 403
        np.testing.assert_allclose(total.mean_D, rows.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(total.scatter_DD / 403, np.cov(rows.T, bias=True), rtol=1e-9)


def test_moments_of_float32_rows_are_taken_in_float64() -> None:
    rows = (_rows() + 1e3).astype(np.float32)
    np.testing.assert_allclose(
        Moments.of(rows).scatter_DD / 400, np.cov(rows.T.astype(np.float64), bias=True), rtol=1e-10
    )


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_a_whitening_is_the_plain_formula(exponent: float) -> None:
    rows = _rows()
    affine = whitening(Moments.of(rows), exponent=exponent)
    mapped, centred = affine(rows), rows - rows.mean(axis=0)
    singular, right = np.linalg.svd(centred, full_matrices=False)[1:]  # another way to the same directions
    expected = centred @ right.T * (singular**2 / len(rows)) ** (-exponent / 2)
    np.testing.assert_allclose(np.abs(mapped), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(mapped @ mapped.T, expected @ expected.T, atol=1e-8)


def test_full_whitening_gives_every_direction_variance_one_and_none_correlates() -> None:
    rows = _rows()
    mapped = whitening(Moments.of(rows), exponent=1.0)(rows)
    np.testing.assert_allclose(np.cov(mapped.T, bias=True), np.eye(5), atol=1e-9)


def test_exponent_zero_changes_no_inner_product_of_centred_vectors() -> None:
    rows = _rows()
    mapped, centred = whitening(Moments.of(rows), exponent=0.0)(rows), rows - rows.mean(axis=0)
    np.testing.assert_allclose(mapped @ mapped.T, centred @ centred.T, atol=1e-9)


def test_the_directions_kept_are_those_of_most_variance_in_order() -> None:
    rows = _rows()
    whole, cut = (whitening(Moments.of(rows), exponent=0.0, dimensions=number) for number in (None, 2))
    np.testing.assert_array_equal(cut.projection_DP, whole.projection_DP[:, :2])
    variances = whole(rows).var(axis=0)
    assert np.all(np.diff(variances) < 0)


def test_signs_are_those_of_the_greatest_component() -> None:
    affine = whitening(Moments.of(_rows()), exponent=0.0)
    greatest = np.abs(affine.projection_DP).argmax(axis=0)
    assert np.all(affine.projection_DP[greatest, np.arange(5)] > 0)


def test_a_constant_column_is_dropped_and_not_blown_up() -> None:
    rows = _rows()
    rows[:, 3] = 0.1
    rows = np.concatenate([rows, rows[:, :1]], axis=1)  # and one that is there twice
    affine = whitening(Moments.of(rows), exponent=1.0)
    assert affine.projection_DP.shape == (6, 4)
    np.testing.assert_allclose(affine(rows).var(axis=0), 1.0)
    np.testing.assert_allclose(affine(rows + 1e-3 * np.eye(6)[3]), affine(rows), atol=1e-9)


def test_directions_below_the_floor_are_dropped_and_above_it_kept() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(50, 3))
    rows = np.linalg.qr(rows - rows.mean(axis=0))[0] * np.sqrt([1.0, 2 * EIGENVALUE_FLOOR, EIGENVALUE_FLOOR / 2])
    assert whitening(Moments.of(rows), exponent=1.0).projection_DP.shape == (3, 2)


def test_fewer_rows_than_dimensions_leave_as_many_directions_as_rows_less_one() -> None:
    rows = _rows(count=4, dimensions=9)
    affine = whitening(Moments.of(rows), exponent=1.0, dimensions=8)
    assert affine.projection_DP.shape == (9, 3)
    assert np.abs(affine(rows)).max() < 4


@pytest.mark.parametrize("rows", [_rows(0), _rows(1), np.full((7, 3), 0.1)], ids=["none", "one", "all the same"])
def test_rows_that_do_not_vary_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(FitError, match=f"{len(rows)} rows: no direction varies"):
        whitening(Moments.of(rows), exponent=1.0)


def test_nonsense_is_refused() -> None:
    moments = Moments.of(_rows())
    with pytest.raises(SettingsError, match="exponent of a whitening is nan"):
        whitening(moments, exponent=float("nan"))
    with pytest.raises(SettingsError, match="dimensions of a whitening are 0"):
        whitening(moments, exponent=1.0, dimensions=0)
    with pytest.raises(SettingsError, match="5 and of 4 dimensions"):
        moments + Moments.of(_rows(dimensions=4))
    with pytest.raises(SettingsError, match=r"\[5\]"):
        Moments.of(np.ones(5))
