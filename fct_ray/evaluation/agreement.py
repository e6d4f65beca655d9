"""Neighbour agreement: how much of one ranking's top-k another ranking finds. Needs no labels; the gate's measure.

Owns: exact top-k and the share of common neighbours. Knows no model, no store, no index; an approximate index is
judged by comparing its results with these.

Shapes: Q queries, G gallery, D dimensions, K neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import SettingsError
from fct_ray.evaluation.ranking import own_positions, positions, ranking_keys
from fct_ray.kinds import Metric

NO_NEIGHBOUR = -1
"""Padding of searches that found fewer than k items; agrees with nothing."""


def top_k(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    k: int,
    *,
    metric: Metric,
    query_ids_Q: NDArray[np.int64] | None = None,
    gallery_ids_G: NDArray[np.int64] | None = None,
) -> NDArray[np.intp]:
    """Gallery positions of each query's k best items, best first, ties by gallery order: intp [Q, K].

    With ids, the item with the query's own id is excluded. Exact, in blocks of bounded memory.

    Raises:
        SettingsError: k is not between 1 and the number of items that can be found, or shapes do not fit.
        DataError: NaN or infinite embeddings, or repeated gallery ids.

    Examples:
        >>> gallery = np.eye(3, dtype=np.float32)
        >>> top_k(np.array([[0.0, 2.0, 1.0]], dtype=np.float32), gallery, 2, metric=Metric.IP)
        array([[1, 2]])
    """
    own_Q = own_positions(len(query_QD), len(gallery_GD), query_ids_Q, gallery_ids_G)
    available = len(gallery_GD) - int((own_Q >= 0).any())
    if not 1 <= k <= available:
        raise SettingsError(f"k is {k}; it must lie between 1 and the {available} gallery items a query can find")
    found_QK = np.empty((len(query_QD), k), np.intp)
    for rows, keys_BG in ranking_keys(
        query_QD, gallery_GD, metric=metric, query_ids_Q=query_ids_Q, gallery_ids_G=gallery_ids_G
    ):
        if k < keys_BG.shape[1]:
            keys_BG.partition(k - 1, axis=1)
        found_QK[rows] = positions(np.sort(keys_BG[:, :k], axis=1))
    return found_QK


def neighbour_agreement(reference_QK: NDArray[np.integer], candidate_QK: NDArray[np.integer]) -> NDArray[np.float64]:
    """Share of each query's reference neighbours that are among its candidate neighbours: float64 [Q] in [0, 1].

    Order within the k does not count. Entries of -1 are padding; reference rows must hold at least one neighbour.

    Raises:
        SettingsError: the numbers of queries differ, or a reference row is empty.

    Examples:
        >>> neighbour_agreement(np.array([[7, 8, 9, 10]]), np.array([[9, 1, 7, 2]]))
        array([0.5])
    """
    if reference_QK.ndim != 2 or candidate_QK.ndim != 2 or len(reference_QK) != len(candidate_QK):
        raise SettingsError(
            f"neighbours of shape {reference_QK.shape} and {candidate_QK.shape}; "
            "both must be [queries, k] of the same queries"
        )
    wanted_QK = reference_QK != NO_NEIGHBOUR
    num_wanted_Q = wanted_QK.sum(axis=1)
    if not num_wanted_Q.all():
        empty = int(np.flatnonzero(num_wanted_Q == 0)[0])
        raise SettingsError(f"query {empty} has no reference neighbours; search the reference with k of at least 1")
    found_QK = np.zeros(reference_QK.shape, np.bool_)
    for rank in range(candidate_QK.shape[1]):
        found_QK |= reference_QK == candidate_QK[:, rank, None]
    agreement_Q: NDArray[np.float64] = (found_QK & wanted_QK).sum(axis=1) / num_wanted_Q
    return agreement_Q
