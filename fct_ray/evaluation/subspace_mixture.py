"""Two Gaussians with full covariances over whitened directions: candidates for two spaces in one gallery, and their proof.

    z = W (x / |x| - mean)                 pooled covariance of z: the identity
    candidates: a mixture of two Gaussians by EM, from many starts
    proof: a small group of rows is held out together with all groups that touch it; which Gaussian knows it?

The proof is a leave-one-group-out cross-validation with a buffer, as for spatial data: a union of arbitrary clusters fits
as well as a space does, but says nothing of a cluster that it has not seen.
Array legend: N rows, R whitened numbers, C small groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from fct_ray.evaluation.gallery_statistics import unit
from fct_ray.evaluation.neighbourhoods import small_groups, smooth_splits

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Moments = tuple[float, FloatArray, FloatArray]
"""(number of rows, sum [R], sum of outer products [R, R])."""
MOST_AXES = 32
LEAST_VARIANCE = 1e-4
"""Principal axes with less than this part of the largest variance are left out: rounding decides there."""
EM_ROUNDS, EM_ROWS = 7, 1_500
KERNEL_ROWS, POWER_ROUNDS = 1_200, 12
FIRST_CENTRES = 10


def principal_rows(vectors_ND: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Directions on their principal axes, [N, R] centred, and the same with unit variance on each axis."""
    directions_ND = unit(vectors_ND)
    centred_ND = directions_ND - directions_ND.mean(axis=0)
    step = max(len(centred_ND) // 4_096, 1)
    part = centred_ND[::step].astype(np.float64)
    covariance_DD = part.T @ part / len(part)
    dimension = len(covariance_DD)
    num = min(MOST_AXES, dimension, max(len(vectors_ND) // 20, 2))
    values, axes_DR = scipy.linalg.eigh(covariance_DD, subset_by_index=(dimension - num, dimension - 1))
    values, axes_DR = values[::-1], axes_DR[:, ::-1]
    useful = values > LEAST_VARIANCE * values[0]
    rows_NR = (centred_ND @ axes_DR[:, useful]).astype(np.float32)
    return rows_NR, (rows_NR / np.sqrt(values[useful])).astype(np.float32)


def candidates(whitened_NR: FloatArray, neighbours_NK: IntArray, rng: np.random.Generator) -> Iterator[Mask]:
    """Possible smaller groups, bool [N], each after EM; equal ones once."""
    seen: list[Mask] = []
    for start_N in _starts(whitened_NR, neighbours_NK, rng):
        for found_N in (start_N, expectation_maximization(whitened_NR, start_N)):
            smaller_N = ~found_N if found_N.mean() > 0.5 else found_N
            if smaller_N.sum() < whitened_NR.shape[1] // 4 or any((smaller_N != one).mean() < 0.001 for one in seen):
                continue
            seen.append(smaller_N)
            yield smaller_N


def _starts(whitened_NR: FloatArray, neighbours_NK: IntArray, rng: np.random.Generator) -> Iterator[Mask]:
    for values_N in smooth_splits(neighbours_NK, 6, rng).T:
        yield _cut(values_N)
    for values_N in _quadratic_modes(whitened_NR, 5, rng):
        yield _cut(values_N)
    group_N = small_groups(unit(whitened_NR), FIRST_CENTRES, rng)
    for group in range(int(group_N.max()) + 1):
        yield group_N == group
    lengths_N = np.linalg.norm(whitened_NR, axis=1)
    yield lengths_N > np.quantile(lengths_N, 0.9)


def _cut(values_N: FloatArray) -> Mask:
    """The rows above the cut that leaves the least variance within both parts (Otsu)."""
    ordered = np.sort(values_N.astype(np.float64))
    num = len(ordered)
    below = np.arange(1, num)
    sums = np.cumsum(ordered)[:-1]
    gain = sums**2 / below + (ordered.sum() - sums) ** 2 / (num - below)
    return np.asarray(values_N > ordered[int(np.argmax(gain))])


def _quadratic_modes(whitened_NR: FloatArray, num: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Quadratic forms of directions that differ most among rows: kernel PCA with the squared cosine.

    Two spaces with equal means differ in their second moments, which are the means of what this kernel compares.
    """
    part_NR = unit(whitened_NR[rng.permutation(len(whitened_NR))[:KERNEL_ROWS]])
    kernel = np.square(part_NR @ part_NR.T).astype(np.float64)
    means = kernel.mean(axis=0)
    centred = kernel - means[:, None] - means[None, :] + kernel.mean()
    vectors = rng.standard_normal((len(centred), num))
    for _ in range(POWER_ROUNDS):
        vectors = np.linalg.qr(centred @ vectors)[0]
    directions_NR = unit(whitened_NR)
    for vector in vectors.T:
        form_RR = (part_NR * (vector - vector.mean())[:, None]).T @ part_NR
        yield np.asarray(((directions_NR @ form_RR.astype(np.float32)) * directions_NR).sum(axis=1))


def expectation_maximization(whitened_NR: FloatArray, start_N: Mask) -> Mask:
    """Rows that the first of two Gaussians explains better, after EM from `start_N` on at most EM_ROWS of the rows."""
    step = -(-len(whitened_NR) // EM_ROWS)
    part_NR, share_N = whitened_NR[::step], start_N[::step].astype(np.float64)
    moments: list[Moments] = []
    for _ in range(EM_ROUNDS):
        weights = (share_N, 1 - share_N)
        if min(weight.sum() for weight in weights) < 2:
            return start_N
        moments = [_moments(part_NR, weight) for weight in weights]
        before_N, share_N = share_N, _responsibilities(part_NR, moments)
        if np.abs(share_N - before_N).mean() < 1e-4:
            break
    return np.asarray(_responsibilities(whitened_NR, moments) > 0.5)


def _responsibilities(rows_NR: FloatArray, moments: Sequence[Moments]) -> npt.NDArray[np.float64]:
    first_N, second_N = (_log_density(rows_NR, *one) + np.log(one[0]) for one in moments)
    return np.asarray(1 / (1 + np.exp(np.clip(second_N - first_N, -50, 50))))


def _moments(rows_NR: FloatArray, weight_N: npt.NDArray[np.float64]) -> Moments:
    """What weighted rows give."""
    weighted_NR = rows_NR * weight_N[:, None].astype(np.float32)
    return float(weight_N.sum()), weighted_NR.sum(axis=0), weighted_NR.T @ rows_NR


def _log_density(rows_NR: FloatArray, num: float, sum_R: FloatArray, outer_RR: FloatArray) -> npt.NDArray[np.float64]:
    """Log density of rows, but for a constant, under the Gaussian of these moments.

    Its covariance is drawn to the pooled one, the identity, as by R + 2 more rows: a Wishart prior.
    """
    dimension = len(sum_R)
    mean_R = sum_R / max(num, 1e-9)
    strength = dimension + 2
    scatter_RR = outer_RR - num * np.outer(mean_R, mean_R)
    covariance_RR = (scatter_RR + strength * np.eye(dimension)) / (num + strength)
    root_RR = np.linalg.cholesky(covariance_RR.astype(np.float64))
    away_NR = scipy.linalg.solve_triangular(root_RR, (rows_NR - mean_R).T, lower=True, check_finite=False)
    return np.asarray(-0.5 * np.square(away_NR).sum(axis=0) - np.log(np.diag(root_RR)).sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupMoments:
    """Small groups of rows, by what Gaussians need of them: their number, sum and sum of outer products."""

    counts_C: npt.NDArray[np.float64]
    sums_CR: npt.NDArray[np.float64]
    outers_CRR: npt.NDArray[np.float64]


def group_moments(rows_NR: FloatArray, group_N: IntArray) -> GroupMoments:
    """The moments of each group."""
    parts = [rows_NR[group_N == group].astype(np.float64) for group in range(int(group_N.max()) + 1)]
    return GroupMoments(
        counts_C=np.array([float(len(part)) for part in parts]),
        sums_CR=np.stack([part.sum(axis=0) for part in parts]),
        outers_CRR=np.stack([part.T @ part for part in parts]),
    )


def recognised(
    moments: GroupMoments, member_N: Mask, group_N: IntArray, touching_CC: Mask
) -> tuple[float, float, npt.NDArray[np.bool_]]:
    """Share of small groups that the Gaussian of their own side explains better than the other side's, held out.

    Of the side where it is lower, each small group counting once. Neither Gaussian has seen the group or one that touches
    it. A small group with a fifth of its rows on the other side, or with nothing left to learn its side from, counts as
    lost. Also: by how many nats a row the median group is explained better, on the side where that is less; and the rows
    with each small group on the side that explains it better, bool [N].
    """
    sides_C = np.bincount(group_N, member_N) / moments.counts_C
    first_C = sides_C > 0.5
    learned = [~touching_CC & side_C for side_C in (first_C, ~first_C)]
    scores_2C = np.stack([_explained(moments, learned_CC.astype(np.float64)) for learned_CC in learned])
    least = max(12, moments.sums_CR.shape[1] // 4)
    decided_C = np.min([learned_CC @ moments.counts_C for learned_CC in learned], axis=0) >= least
    decided_C &= (sides_C <= 0.2) | (sides_C >= 0.8)
    says_first_C = scores_2C[0] > scores_2C[1]
    won_C = decided_C & (says_first_C == first_C)
    share = min(float(won_C[side_C].mean()) if side_C.any() else 0.0 for side_C in (first_C, ~first_C))
    better_C = np.where(first_C, 1, -1) * (scores_2C[0] - scores_2C[1])
    contrast = min(float(np.median(better_C[side_C])) if side_C.any() else 0.0 for side_C in (first_C, ~first_C))
    return share, contrast, np.where(decided_C[group_N], says_first_C[group_N], member_N)


def _explained(moments: GroupMoments, learned_CC: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean log density [C] of each group's rows, but for a constant, under the Gaussian of the groups that it learns from."""
    num_C, dimension = learned_CC @ moments.counts_C, moments.sums_CR.shape[1]
    mean_CR = (learned_CC @ moments.sums_CR) / np.maximum(num_C, 1)[:, None]
    outer_CRR = np.tensordot(learned_CC, moments.outers_CRR, 1)
    scatter_CRR = outer_CRR - num_C[:, None, None] * mean_CR[:, :, None] * mean_CR[:, None, :]
    strength = dimension + 2
    covariance_CRR = (scatter_CRR + strength * np.eye(dimension)) / (num_C + strength)[:, None, None]
    own_CR = moments.sums_CR / moments.counts_C[:, None]
    cross_CRR = own_CR[:, :, None] * mean_CR[:, None, :]
    away_CRR = moments.outers_CRR / moments.counts_C[:, None, None] - cross_CRR - cross_CRR.transpose(0, 2, 1)
    away_CRR += mean_CR[:, :, None] * mean_CR[:, None, :]
    squares_C = (np.linalg.inv(covariance_CRR) * away_CRR).sum(axis=(1, 2))
    return np.asarray(-0.5 * (squares_C + np.linalg.slogdet(covariance_CRR)[1]))
