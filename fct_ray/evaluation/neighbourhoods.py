"""Who is near whom among some thousand directions, and small groups of rows that lie together.

Owns: exact nearest neighbours by cosine, k-means, and which of its groups touch. Array legend: N rows, R numbers of a row,
K neighbours, C groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BLOCK_ROWS = 512
KMEANS_ROUNDS = 8
TOUCHING = 0.02
"""Two groups touch where at least this share of the neighbours of one lies in the other."""


def nearest(unit_NR: FloatArray, k: int) -> IntArray:
    """The `k` nearest other rows of every row by inner product, in no particular order, [N, K]."""
    found = np.empty((len(unit_NR), k), np.int64)
    for start in range(0, len(unit_NR), BLOCK_ROWS):
        scores_BN = unit_NR[start : start + BLOCK_ROWS] @ unit_NR.T
        rows = np.arange(len(scores_BN))
        scores_BN[rows, start + rows] = -np.inf
        found[start : start + BLOCK_ROWS] = np.argpartition(-scores_BN, k, axis=1)[:, :k]
    return found


def crossing_shares(neighbours_NK: IntArray, in_group_N: npt.NDArray[np.bool_]) -> float:
    """Share of the neighbours of a group's rows that lie outside of it."""
    return float((~in_group_N[neighbours_NK[in_group_N]]).mean()) if in_group_N.any() else 1.0


def small_groups(rows_NR: FloatArray, num_groups: int, rng: np.random.Generator) -> IntArray:
    """Numbers of k-means groups, [N], from 0 without a gap; groups that stay empty are left out."""
    centres_CR = rows_NR[rng.permutation(len(rows_NR))[:num_groups]]
    squares_N = np.square(rows_NR).sum(axis=1)
    group_N = np.zeros(len(rows_NR), np.int64)
    for _ in range(KMEANS_ROUNDS):
        distances_NC = np.square(centres_CR).sum(axis=1) - 2 * rows_NR @ centres_CR.T
        group_N = np.argmin(distances_NC, axis=1)
        counts_C = np.bincount(group_N, minlength=len(centres_CR))
        belongs = scipy.sparse.csr_matrix(
            (np.ones(len(rows_NR), np.float32), (group_N, np.arange(len(rows_NR)))), (len(centres_CR), len(rows_NR))
        )
        means_CR = (belongs @ rows_NR) / np.maximum(counts_C, 1)[:, None]
        farthest = np.argsort(distances_NC[np.arange(len(rows_NR)), group_N] + squares_N)[::-1]
        empty = np.flatnonzero(counts_C == 0)
        means_CR[empty] = rows_NR[farthest[: len(empty)]]
        centres_CR = means_CR.astype(np.float32)
    return np.asarray(np.unique(group_N, return_inverse=True)[1], np.int64)


def touching(group_N: IntArray, neighbours_NK: IntArray) -> npt.NDArray[np.bool_]:
    """Which groups touch which, [C, C], each also itself."""
    num = int(group_N.max()) + 1
    counts_CC = np.zeros((num, num))
    np.add.at(counts_CC, (np.repeat(group_N, neighbours_NK.shape[1]), group_N[neighbours_NK].ravel()), 1)
    shares_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    return np.asarray((shares_CC >= TOUCHING) | (shares_CC.T >= TOUCHING) | np.eye(num, dtype=bool))


def smooth_splits(neighbours_NK: IntArray, num_splits: int, rng: np.random.Generator, rounds: int = 60) -> FloatArray:
    """Values [N, num_splits] that change least from neighbour to neighbour, the constant left out.

    They are the slowest modes of a random walk on the graph of neighbours: where groups of rows hardly touch, each value is
    nearly constant in a group. By block power iteration, so the cost does not depend on how well they are separated.
    """
    num, k = neighbours_NK.shape
    edges = (np.ones(num * k), (np.repeat(np.arange(num), k), neighbours_NK.ravel()))
    graph = scipy.sparse.csr_matrix(edges, (num, num))
    graph = graph + graph.T
    root_N = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    walk = scipy.sparse.diags(1 / root_N) @ graph @ scipy.sparse.diags(1 / root_N)
    modes = rng.standard_normal((num, num_splits + 1))
    modes[:, 0] = root_N
    for _ in range(rounds):
        modes = np.linalg.qr(0.5 * (modes + walk @ modes))[0]
    values, vectors = np.linalg.eigh(modes.T @ (walk @ modes))
    ordered = (modes @ vectors)[:, np.argsort(values)[::-1]]
    return np.asarray(ordered[:, 1:] / root_N[:, None], np.float32)
