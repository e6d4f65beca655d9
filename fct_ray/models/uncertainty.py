"""How uncertain any map of an item is: the variance of a Gaussian process whose observations are the pairs.

    z(item)      = [normalise(old), normalise(side)]
    k(a, b)      = exp(-|a - b|^2 / (2 length^2)),              length = median distance of two pairs
    variance(z)  = 1 - k(z, Z) (K + ridge I)^-1 k(Z, z),        Z the pairs, K = k(Z, Z)

Items are drawn with chances in proportion to it. The most uncertain ones of all are outliers, unlike what anybody searches
for: on photos (Fashion-MNIST) they helped less than as many random items, and drawn ones helped as much.

It is near 0 beside pairs and near 1 where no pair is near, and needs neither a target nor a fitted map (Rasmussen and
Williams, "Gaussian Processes for Machine Learning", 2006, equation 2.26).

Owns: that formula in float32, in bounded memory. Does not import torch.

Shapes: N rows, R of them at a time, P pairs, O dim of old, S dim of side-information, Z = O + S.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
MOST_PAIRS = 1000
"""Each costs as much for every item of the gallery as a row of a layer."""
RIDGE = 0.1
"""Beside the kernel's 1 on the diagonal: pairs say little about the second decimal, and float32 must do."""
_MOST_FOR_LENGTH = 500
_ROWS_AT_ONCE = 4096
_DECIMALS = 6
"""Below that are roundings of float32: what is equal so far counts as equal."""


class Uncertainty:
    """The variance at any item, from the pairs alone; made once and sent to workers."""

    def __init__(self, old_PO: FloatArray, side_PS: FloatArray | None, *, seed: int, most_pairs: int = MOST_PAIRS):
        """From the pairs, or a seeded sample of `most_pairs` of them; at least one."""
        kept_P = np.sort(np.random.default_rng(seed).permutation(len(old_PO))[:most_pairs])
        z_PZ = _features(old_PO[kept_P], None if side_PS is None else side_PS[kept_P])
        self.length = _median_distance(z_PZ[:_MOST_FOR_LENGTH])
        self.pairs_PZ = z_PZ / np.float32(self.length)
        system_PP = _kernel(self.pairs_PZ, self.pairs_PZ).astype(np.float64)
        system_PP[np.diag_indices_from(system_PP)] += RIDGE
        self.inverse_root_PP = np.linalg.inv(np.linalg.cholesky(system_PP)).astype(np.float32)

    def __call__(self, old_NO: FloatArray, side_NS: FloatArray | None) -> npt.NDArray[np.float64]:
        """The variance at every row, float64 [N], in [0, 1], rounded to six decimals."""
        variance_N: npt.NDArray[np.float64] = np.empty(len(old_NO))
        for start in range(0, len(old_NO), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            z_RZ = _features(old_NO[rows], None if side_NS is None else side_NS[rows]) / np.float32(self.length)
            explained_PR = self.inverse_root_PP @ _kernel(self.pairs_PZ, z_RZ)
            variance_N[rows] = 1.0 - np.square(explained_PR).sum(axis=0)
        np.clip(variance_N, 0.0, 1.0, out=variance_N)
        return variance_N.round(_DECIMALS)


def drawing_keys(variance_N: npt.NDArray[np.float64], uniform_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys whose highest are a sample without replacement, drawn with chances in proportion to the variance, [N].

    log(u) / variance with u uniform in [0, 1), one for each item (Efraimidis and Spirakis, "Weighted random sampling with
    a reservoir", 2006): whoever has a part of the items can say which of them may be drawn.
    """
    smallest = np.finfo(np.float64).tiny
    keys_N: npt.NDArray[np.float64] = np.log(np.maximum(uniform_N, smallest)) / np.maximum(variance_N, 10.0**-_DECIMALS)
    return keys_N


def highest(ids_N: npt.NDArray[np.int64], keys_N: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """The `count` ids of the highest keys, or all where there are fewer; of equal ones the lower ids. Ascending."""
    order_N = np.lexsort((ids_N, -keys_N))
    return np.sort(ids_N[order_N[:count]])


def _features(old_NO: FloatArray, side_NS: FloatArray | None) -> FloatArray:
    parts = [_unit(old_NO)] + ([] if side_NS is None else [_unit(side_NS)])
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _unit(rows_ND: FloatArray) -> FloatArray:
    unit_ND: FloatArray = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
    return unit_ND


def _kernel(one_PZ: FloatArray, other_RZ: FloatArray) -> FloatArray:
    """exp(-|a - b|^2 / 2), [P, R], the squares by one matrix product."""
    halves_P1 = np.square(one_PZ).sum(axis=1, keepdims=True) / 2
    halves_R = np.square(other_RZ).sum(axis=1) / 2
    kernel_PR: FloatArray = np.exp(np.minimum(one_PZ @ other_RZ.T - halves_P1 - halves_R, 0.0))
    return kernel_PR


def _median_distance(z_PZ: FloatArray) -> float:
    """The median distance of two of these rows; 1 where there are no two that differ."""
    squares_P = np.square(z_PZ, dtype=np.float64).sum(axis=1)
    squares_PP = squares_P[:, None] + squares_P - 2.0 * (z_PZ.astype(np.float64) @ z_PZ.T.astype(np.float64))
    apart = np.sqrt(np.maximum(squares_PP[np.triu_indices(len(z_PZ), 1)], 0.0))
    return float(np.median(apart)) or 1.0 if apart.size else 1.0
