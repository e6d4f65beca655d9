"""Exact full rankings of a gallery, in blocks of queries, fast enough for every evaluation of this room.

Owns: scores of either metric, and the order they imply. Ties are broken by gallery order: of two equally good
items the one that stands first in the gallery is ranked first, so a ranking is a function of its inputs.
Knows nothing of labels or measures. Memory: a few blocks of `block_queries * G` 8-byte keys.

A score and its gallery position are packed into one 64-bit key whose ascending order is the ranking; numpy sorts
such keys with vector instructions, about 10 times faster than a stable argsort (2,000 queries on 30,000 items:
0.7 s against 6.4 s on 2 cores with AVX-512).

Shapes: Q queries, G gallery, D dimensions, B queries of a block, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, SettingsError
from fct_ray.kinds import Metric

BLOCK_KEYS = 1 << 20
"""Keys per block: 8 MiB; measured best between cache misses (8 times as much) and small products (a fourth)."""
MAX_GALLERY_ROWS = 1 << 32
_POSITION_BITS = np.uint64(32)
_POSITION_MASK = np.uint64(0xFFFFFFFF)


def ranking_keys(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    *,
    metric: Metric,
    query_ids_Q: NDArray[np.int64] | None = None,
    gallery_ids_G: NDArray[np.int64] | None = None,
) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """Yield (queries of the block, keys_BG): unsorted keys whose ascending order along G is the ranking, best first.

    Where both ids are given, the gallery item with the query's own id is moved behind all others; see `own_positions`.

    Raises:
        SettingsError: the shapes do not fit each other, or only one of the two ids is given.
        DataError: a value is NaN or infinite (it has no place in a ranking), or gallery ids repeat.
    """
    query_QD, gallery_GD = checked_embeddings(query_QD, "query"), checked_embeddings(gallery_GD, "gallery")
    num_queries, num_gallery = len(query_QD), len(gallery_GD)
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise SettingsError(
            f"queries have {query_QD.shape[1]} dimensions and the gallery {gallery_GD.shape[1]}; both must be equal: "
            "embed both for the same space, or transform the gallery first"
        )
    own_Q = own_positions(num_queries, num_gallery, query_ids_Q, gallery_ids_G)
    half_norms_G = 0.5 * np.einsum("gd,gd->g", gallery_GD, gallery_GD) if metric is Metric.L2 else None
    positions_G = np.arange(num_gallery, dtype=np.uint64)
    block = max(1, BLOCK_KEYS // max(num_gallery, 1))
    keys_BG = np.empty((min(block, num_queries), num_gallery), np.uint64)
    for start in range(0, num_queries, block):
        rows = slice(start, min(start + block, num_queries))
        scores_BG = query_QD[rows] @ gallery_GD.T
        if half_norms_G is not None:
            scores_BG -= half_norms_G  # q.g - |g|^2/2 orders like -|q-g|^2, with less cancellation
        if not np.isfinite(scores_BG).all():
            raise DataError(f"a score of queries {rows.start}..{rows.stop - 1} overflows float32; scale the embeddings")
        own_B = own_Q[rows]
        present_B = np.flatnonzero(own_B >= 0)
        scores_BG[present_B, own_B[present_B]] = -np.inf
        block_keys_BG = keys_BG[: len(scores_BG)]
        _pack(scores_BG, positions_G, block_keys_BG)
        yield rows, block_keys_BG


def positions(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Gallery positions of keys, same shape."""
    return (keys & _POSITION_MASK).astype(np.intp)


def own_positions(
    num_queries: int,
    num_gallery: int,
    query_ids_Q: NDArray[np.int64] | None,
    gallery_ids_G: NDArray[np.int64] | None,
) -> NDArray[np.intp]:
    """Gallery position of each query's own id, -1 where the gallery has no such id or no ids are given.

    Raises:
        SettingsError: only one of the ids is given, or its length is not the number of its embeddings.
        DataError: gallery ids repeat.
    """
    own_Q = np.full(num_queries, -1, np.intp)
    if query_ids_Q is None and gallery_ids_G is None:
        return own_Q
    if query_ids_Q is None or gallery_ids_G is None:
        raise SettingsError("ids of only one side are given; give query and gallery ids, or neither")
    if len(query_ids_Q) != num_queries or len(gallery_ids_G) != num_gallery:
        raise SettingsError(
            f"{len(query_ids_Q)} query ids and {len(gallery_ids_G)} gallery ids for {num_queries} queries and "
            f"{num_gallery} gallery items; give one id per embedding"
        )
    order_G = np.argsort(gallery_ids_G, kind="stable")
    sorted_G = np.asarray(gallery_ids_G)[order_G]
    repeated = np.flatnonzero(sorted_G[1:] == sorted_G[:-1])
    if repeated.size:
        raise DataError(f"gallery id {sorted_G[repeated[0]]} occurs more than once; ids must be unique: deduplicate")
    if num_gallery:
        at_Q = np.minimum(np.searchsorted(sorted_G, query_ids_Q), num_gallery - 1)
        own_Q = np.where(sorted_G[at_Q] == query_ids_Q, order_G[at_Q], -1)
    return own_Q


def _pack(scores_BG: NDArray[np.float32], positions_G: NDArray[np.uint64], keys_BG: NDArray[np.uint64]) -> None:
    """Write keys_BG = (descending order of the score's bits) << 32 | position; scores_BG is overwritten."""
    scores_BG += np.float32(0.0)  # -0.0 becomes 0.0: equal scores must have equal bits
    bits_BG = scores_BG.view(np.int32)
    bits_BG ^= ~(bits_BG >> 31) & np.int32(0x7FFFFFFF)  # flip non-negative ones: larger score, smaller unsigned bits
    keys_BG[...] = bits_BG.view(np.uint32)
    keys_BG <<= _POSITION_BITS
    keys_BG |= positions_G


def checked_embeddings(embeddings: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """The embeddings as contiguous float32 [rows, dimensions]; `what` names them in errors.

    Raises:
        SettingsError: not two-dimensional, or more rows than can be ranked.
        DataError: a value is NaN or infinite; names the row.
    """
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2:
        raise SettingsError(f"{what} embeddings have shape {embeddings.shape}; give [rows, dimensions]")
    if len(embeddings) >= MAX_GALLERY_ROWS:
        raise SettingsError(f"{what} has {len(embeddings)} rows; at most {MAX_GALLERY_ROWS - 1} can be ranked exactly")
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise DataError(f"{what} row {int(np.flatnonzero(~finite)[0])} is NaN or infinite; embed it again")
    return embeddings
