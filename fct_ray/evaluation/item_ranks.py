"""Where a way to search ranks given items: exact ranks in the whole gallery, without sorting it.

Owns: the rank of each relevant item of each query. Ties count against the way: items that score as high as a relevant
one, within the rounding of float32, are ranked before it. So a way whose vectors are all equal finds nothing first, in
whatever order the gallery lies. Knows no measures. Memory: blocks of `BLOCK_SCORES` scores.

Shapes: Q queries, G gallery, D dimensions, R relevant items of all queries, B queries of a block, P relevant items of one
query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation.ranking import checked_embeddings, own_positions
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.kinds import Metric

NOT_IN_GALLERY = 0
"""The rank of an item that the gallery does not hold, or that is the query itself."""
BLOCK_SCORES = 1 << 24
"""Scores per block: 64 MiB; of 2^20 to 2^25 the fastest (2,000 queries on 100,000 items of 640 dimensions: 6 CPU-seconds)."""
ROUNDING = 2.0**-20
"""Scores closer than this, relative to the lengths multiplied, are ties: what the order of float32 sums can change."""
_FEW_ITEMS = 16
"""Up to this many items of a query are ranked by counting the better ones, more by sorting the scores once."""


def item_ranks(
    way: WayToSearch,
    gallery_ids_G: NDArray[np.int64],
    offsets_Q1: NDArray[np.int64],
    item_ids_R: NDArray[np.int64],
    *,
    own_ids_Q: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The rank of each given item for its query, 1 is best, 0 where the gallery does not hold it: int64 [R].

    The items of query q are `item_ids_R[offsets_Q1[q]:offsets_Q1[q + 1]]`, each once. With `own_ids_Q` the gallery item with
    the query's own id is left out. Of tied items those given come last; among themselves they are ranked by score.

    Raises:
        SettingsError: shapes do not fit each other.
        DataError: NaN or infinite embeddings, scores that overflow, or repeated gallery ids.

    Examples:
        >>> from fct_ray.evaluation.ways import doing_nothing
        >>> way = doing_nothing(np.array([[2.0, 1.0]]), np.eye(2), Metric.IP)
        >>> item_ranks(way, np.array([7, 8]), np.array([0, 2]), np.array([8, 5]))
        array([2, 0])
    """
    query_QD, gallery_GD = checked_embeddings(way.query_QD, "query"), checked_embeddings(way.gallery_GD, "gallery")
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise SettingsError(
            f"queries have {query_QD.shape[1]} dimensions and the gallery {gallery_GD.shape[1]}; both must be equal: "
            "embed both for the same space, or transform the gallery first"
        )
    if len(offsets_Q1) != len(query_QD) + 1:
        raise SettingsError(
            f"judgements of {len(offsets_Q1) - 1} queries for {len(query_QD)} query embeddings; give both"
        )
    position_R = own_positions(len(item_ids_R), len(gallery_GD), item_ids_R, gallery_ids_G)
    own_Q = np.full(len(query_QD), -1, np.intp)
    if own_ids_Q is not None:
        own_Q = own_positions(len(query_QD), len(gallery_GD), own_ids_Q, gallery_ids_G)
        position_R[position_R == np.repeat(own_Q, np.diff(offsets_Q1))] = -1
    slack_Q, half_norms_G, slack_G = _slack(query_QD, gallery_GD, way.metric)
    ranks_R = np.full(len(item_ids_R), NOT_IN_GALLERY, np.int64)
    block = max(1, BLOCK_SCORES // max(len(gallery_GD), 1))
    for start in range(0, len(query_QD), block):
        scores_BG = query_QD[start : start + block] @ gallery_GD.T
        if half_norms_G is not None:
            scores_BG -= half_norms_G  # q.g - |g|^2/2 orders like -|q-g|^2, with less cancellation
        _check_finite(scores_BG, start)
        for query, scores_G in enumerate(scores_BG, start):
            items = np.arange(offsets_Q1[query], offsets_Q1[query + 1])
            items = items[position_R[items] >= 0]
            at_P = position_R[items]
            lowest_P = scores_G[at_P] - ROUNDING * (slack_Q[query] * slack_G[at_P])
            if half_norms_G is not None:
                lowest_P -= ROUNDING * half_norms_G[at_P]
            ranks_R[items] = _ranks(scores_G, at_P, lowest_P, int(own_Q[query]))
    return ranks_R


def _ranks(
    scores_G: NDArray[np.float32], at_P: NDArray[np.intp], lowest_P: NDArray[np.floating], own: int
) -> NDArray[np.int64]:
    """Ranks of the items at these positions: behind all others that reach `lowest_P`. Overwrites the scores."""
    scores_G[at_P] = -np.inf
    if own >= 0:
        scores_G[own] = -np.inf
    lowest_P = lowest_P.astype(np.float32)
    order_P = np.argsort(-lowest_P, kind="stable")
    if len(at_P) > _FEW_ITEMS:
        better_P = len(scores_G) - np.searchsorted(np.sort(scores_G), lowest_P[order_P], side="left")
    else:
        better_P = np.array([np.count_nonzero(scores_G >= lowest) for lowest in lowest_P[order_P]], np.int64)
    ranks_P = np.empty(len(at_P), np.int64)
    ranks_P[order_P] = better_P + np.arange(1, len(at_P) + 1)
    return ranks_P


def _slack(
    query_QD: NDArray[np.float32], gallery_GD: NDArray[np.float32], metric: Metric
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32]]:
    """Lengths of queries, halved squares of the gallery's lengths (squared distances only), lengths of the gallery."""
    squares_G = np.einsum("gd,gd->g", gallery_GD, gallery_GD)
    lengths_Q: NDArray[np.float32] = np.sqrt(np.einsum("qd,qd->q", query_QD, query_QD))
    return lengths_Q, np.float32(0.5) * squares_G if metric is Metric.L2 else None, np.sqrt(squares_G)


def _check_finite(scores_BG: NDArray[np.float32], first: int) -> None:
    if scores_BG.size and not (np.isfinite(scores_BG.min()) and np.isfinite(scores_BG.max())):
        raise DataError(
            f"a score of queries {first}..{first + len(scores_BG) - 1} overflows float32; scale the embeddings"
        )
