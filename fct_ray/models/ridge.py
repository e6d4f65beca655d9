"""The closed-form fit of the linear control: ridge regression with its penalty chosen on a validation part.

Owns: the algebra, in float64 on the CPU. Knows no training loop: on text a ridge is often better than the network, so the
gate always sees it.

Shapes: N rows, V validation rows, I inputs (dim of old + dim of side-information), W dim of new, L penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import FitError

L2_GRID = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties relative to the mean variance of the inputs, so that one grid serves all scales and sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RidgeFit:
    """output_NW = inputs_NI @ weights_IW + bias_W, and the penalty that was chosen."""

    weights_IW: NDArray[np.float64]
    bias_W: NDArray[np.float64]
    l2: float


class _Ridge:
    """min_B ||Y - XB||^2 + alpha ||B||^2 on centred data, for many alphas from one eigendecomposition."""

    def __init__(self, inputs_NI: NDArray[np.float64], targets_NW: NDArray[np.float64]) -> None:
        self.input_mean_I = inputs_NI.mean(axis=0)
        self.target_mean_W = targets_NW.mean(axis=0)
        centred_NI = inputs_NI - self.input_mean_I
        eigenvalues_I, self.vectors_II = np.linalg.eigh(centred_NI.T @ centred_NI)
        self.eigenvalues_I = np.maximum(eigenvalues_I, 0.0)
        self.rotated_IW = self.vectors_II.T @ (centred_NI.T @ (targets_NW - self.target_mean_W))

    def solution(self, l2: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """weights_IW and bias_W for alpha = l2 * mean eigenvalue; directions without variance get weight 0."""
        alpha = l2 * float(self.eigenvalues_I.mean())
        denominators_I = self.eigenvalues_I + alpha
        usable_I = denominators_I > np.finfo(np.float64).eps * len(denominators_I) * self.eigenvalues_I.max(initial=0.0)
        inverse_I = np.where(usable_I, 1.0 / np.where(usable_I, denominators_I, 1.0), 0.0)
        weights_IW = self.vectors_II @ (inverse_I[:, None] * self.rotated_IW)
        return weights_IW, self.target_mean_W - self.input_mean_I @ weights_IW


def fit_ridge(
    inputs_NI: NDArray[np.floating],
    targets_NW: NDArray[np.floating],
    *,
    normalized: bool,
    l2_grid: Sequence[float] = L2_GRID,
    validation_share: float = 0.1,
    seed: int = 0,
) -> RidgeFit:
    """The ridge fitted on all rows with the penalty of `l2_grid` that did best on a validation part.

    The validation part is a seeded random `validation_share` of the rows; "best" is the least mean squared
    distance to the target, both at unit length if `normalized` (which is 2 - 2 cosine). A penalty l2 means
    sklearn's `Ridge(alpha = l2 * mean eigenvalue of the centred X'X)`.

    Raises: FitError for fewer than two rows or an empty grid.
    """
    if len(targets_NW) < 2 or not l2_grid:
        raise FitError(
            f"a linear fit got {len(targets_NW)} pairs and {len(l2_grid)} penalties; wanted at least 2 and 1"
        )
    x_NI, y_NW = inputs_NI.astype(np.float64), targets_NW.astype(np.float64)
    chosen = l2_grid[0]
    if len(l2_grid) > 1:
        chosen = _best_l2(x_NI, y_NW, normalized, l2_grid, validation_share, seed)
    weights_IW, bias_W = _Ridge(x_NI, y_NW).solution(chosen)
    return RidgeFit(weights_IW=weights_IW, bias_W=bias_W, l2=chosen)


def _best_l2(
    inputs_NI: NDArray[np.float64],
    targets_NW: NDArray[np.float64],
    normalized: bool,
    l2_grid: Sequence[float],
    validation_share: float,
    seed: int,
) -> float:
    order_N = np.random.default_rng(seed).permutation(len(inputs_NI))
    num_validation = min(max(1, round(validation_share * len(order_N))), len(order_N) - 1)
    validation_V, rest = order_N[:num_validation], order_N[num_validation:]
    ridge = _Ridge(inputs_NI[rest], targets_NW[rest])
    wanted_VW = _unit(targets_NW[validation_V]) if normalized else targets_NW[validation_V]
    errors_L = []
    for l2 in l2_grid:
        weights_IW, bias_W = ridge.solution(l2)
        output_VW = inputs_NI[validation_V] @ weights_IW + bias_W
        errors_L.append(
            float(np.square((_unit(output_VW) if normalized else output_VW) - wanted_VW).sum(axis=1).mean())
        )
    return l2_grid[int(np.argmin(errors_L))]


def _unit(rows_NW: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_NW: NDArray[np.float64] = rows_NW / np.maximum(np.linalg.norm(rows_NW, axis=1, keepdims=True), 1e-12)
    return unit_NW
