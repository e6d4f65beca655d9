"""Whitening: making all directions of a gallery count alike, so that cosines say more.

    x  ->  (x - m) U w^(-exponent / 2)        with m the mean, (w, U) the eigenpairs of the covariance

Owns: the moments of many vectors, which add up in any grouping, and the affine map made from them. In float64, numpy
only. Exponent 1 whitens fully (every direction gets variance 1), 1/2 half way, 0 centres only.

Shapes: N rows, D dim, P dim after the map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import FitError, SettingsError

EIGENVALUE_FLOOR = 1e-6
"""Directions with less than this share of the greatest variance are dropped: they hold rounding, not meaning."""
_ROUNDING = 1e-24
"""A greatest variance below this share of the squared mean is float64's rounding of rows that are all the same."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """How many rows there were, their mean, and sum (x - mean)(x - mean)^T; adds with `+` in any grouping."""

    count: int
    mean_D: NDArray[np.float64]
    scatter_DD: NDArray[np.float64]

    @staticmethod
    def of(rows_ND: NDArray[np.floating]) -> Moments:
        """The moments of rows [N, D]; N may be 0. Raises: SettingsError for another shape."""
        if rows_ND.ndim != 2 or rows_ND.shape[1] == 0:
            raise SettingsError(f"moments of an array of shape {list(rows_ND.shape)}; wanted [rows, dimensions]")
        rows_ND = rows_ND.astype(np.float64)
        mean_D = rows_ND.mean(axis=0) if len(rows_ND) else np.zeros(rows_ND.shape[1])
        centred_ND = rows_ND - mean_D
        return Moments(count=len(rows_ND), mean_D=mean_D, scatter_DD=centred_ND.T @ centred_ND)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of rows together (Chan, Golub and LeVeque, 1979). Raises: SettingsError."""
        if len(self.mean_D) != len(other.mean_D):
            raise SettingsError(
                f"moments of {len(self.mean_D)} and of {len(other.mean_D)} dimensions do not add; wanted vectors of one model"
            )
        count = self.count + other.count
        share = other.count / count if count else 0.0
        step_D = other.mean_D - self.mean_D
        return Moments(
            count=count,
            mean_D=self.mean_D + share * step_D,
            scatter_DD=self.scatter_DD + other.scatter_DD + self.count * share * np.outer(step_D, step_D),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Affine:
    """x -> (x - mean_D) @ projection_DP."""

    mean_D: NDArray[np.float64]
    projection_DP: NDArray[np.float64]

    def __call__(self, rows_ND: NDArray[np.floating]) -> NDArray[np.float64]:
        """The map of every row, [N, P]."""
        mapped_NP: NDArray[np.float64] = (rows_ND - self.mean_D) @ self.projection_DP
        return mapped_NP


def whitening(moments: Moments, *, exponent: float, dimensions: int | None = None) -> Affine:
    """The map x -> (x - m) U w^(-exponent / 2), directions in descending order of variance, at most `dimensions` of them.

    Directions without variance (`EIGENVALUE_FLOOR`) are dropped, so P may be less than `dimensions` and D. Of each
    eigenvector, the component that is greatest in size is positive: the same moments give the same map.

    Raises: SettingsError for a negative exponent or fewer than one dimension; FitError where no direction varies.
    """
    if not (math.isfinite(exponent) and exponent >= 0):
        raise SettingsError(f"exponent of a whitening is {exponent}; wanted 0 (centring) to 1 (full whitening)")
    if dimensions is not None and dimensions < 1:
        raise SettingsError(f"dimensions of a whitening are {dimensions}; wanted at least 1")
    eigenvalues_D, vectors_DD = np.linalg.eigh(moments.scatter_DD / max(moments.count, 1))
    eigenvalues_D, vectors_DD = eigenvalues_D[::-1], vectors_DD[:, ::-1]
    greatest = float(eigenvalues_D[0])
    if not greatest > _ROUNDING * float(moments.mean_D @ moments.mean_D):
        raise FitError(
            f"whitening of {moments.count} rows: no direction varies; wanted at least two rows that differ: give more rows"
        )
    num_kept = int(np.count_nonzero(eigenvalues_D > EIGENVALUE_FLOOR * greatest))
    num_kept = min(num_kept, len(eigenvalues_D) if dimensions is None else dimensions)
    vectors_DP = vectors_DD[:, :num_kept]
    largest_P = np.abs(vectors_DP).argmax(axis=0)
    signs_P = np.sign(vectors_DP[largest_P, np.arange(num_kept)])
    return Affine(
        mean_D=moments.mean_D, projection_DP=vectors_DP * signs_P * eigenvalues_D[:num_kept] ** (-exponent / 2)
    )
