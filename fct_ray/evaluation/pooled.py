"""Pooled judgement: ways to search are compared by the true new similarity of what they return from the whole gallery.

The top lists of every way are pooled, and only the pooled items embedded with the new model: a few thousand instead of the
whole gallery. This is how TREC judges systems on collections too large to judge whole (Sparck Jones and van Rijsbergen, 1975;
Zobel, SIGIR 1998).

    every way's top k  ->  pool of ids  ->  their new embeddings  ->  similarity of what each way returned

What it shows: which way returns items nearer to the query by the new model, at the gallery's true size. What it cannot show:
items that no way returned; and "near by the new model" is not "relevant". Knows no model, no store.

Shapes: Q queries, K list length, G gallery, P pooled items, W new dimensions, U items of one query's pool.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation.agreement import NO_NEIGHBOUR, top_k
from fct_ray.evaluation.ranking import checked_embeddings
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.kinds import Metric

Name = TypeVar("Name", bound=Hashable)
"""What ways are called by: a Method, or a string."""


def top_lists(
    way: WayToSearch, gallery_ids_G: NDArray[np.int64], own_ids_Q: NDArray[np.int64] | None, k: int
) -> NDArray[np.int64]:
    """Ids of the k best items of each query, best first, without the query's own: int64 [Q, K].

    `own_ids_Q` are the ids of queries that are items themselves (None: they are not). A gallery with too few items leaves
    -1 at the end of each list. Ties go by gallery order.

    Raises:
        SettingsError: k is below 1, or shapes do not fit.
        DataError: NaN or infinite embeddings, or repeated gallery ids.

    Examples:
        >>> from fct_ray.evaluation.ways import doing_nothing
        >>> gallery_GD = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=np.float32)
        >>> top_lists(doing_nothing(gallery_GD[:1], gallery_GD, Metric.IP), np.array([7, 8, 9]), np.array([7]), 3)
        array([[ 8,  9, -1]])
    """
    gallery_ids_G = np.asarray(gallery_ids_G, np.int64)
    available = len(gallery_ids_G) - int(own_ids_Q is not None and np.isin(own_ids_Q, gallery_ids_G).any())
    if k < 1:
        raise SettingsError(f"k is {k}; wanted at least 1")
    lists_QK = np.full((len(way.query_QD), k), NO_NEIGHBOUR, np.int64)
    if available:
        positions_QK = top_k(
            way.query_QD,
            way.gallery_GD,
            min(k, available),
            metric=way.metric,
            query_ids_Q=own_ids_Q,
            gallery_ids_G=None if own_ids_Q is None else gallery_ids_G,
        )
        lists_QK[:, : positions_QK.shape[1]] = gallery_ids_G[positions_QK]
    return lists_QK


def pool_ids(lists: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Every id that a list holds, ascending, each once: int64 [P]; these are to be embedded with the new model.

    Examples:
        >>> pool_ids([np.array([[3, 1]]), np.array([[1, -1]])])
        array([1, 3])
    """
    pool_P = np.empty(0, np.int64)
    for lists_QK in lists:
        pool_P = np.union1d(pool_P, np.asarray(lists_QK, np.int64).reshape(-1))
    wanted_P: NDArray[np.int64] = pool_P[pool_P != NO_NEIGHBOUR]
    return wanted_P


def pooled_measures(
    lists: Mapping[Name, NDArray[np.int64]],
    new_query_QW: NDArray[np.float32],
    pool_ids_P: NDArray[np.int64],
    new_pool_PW: NDArray[np.float32],
    *,
    metric: Metric,
    k: int,
) -> dict[Name, dict[str, NDArray[np.float64]]]:
    """What each way returned, by true new similarity: "pooled_recall@{k}" and "similarity@{k}" of each query, float64 [Q].

    The pool of a query is what all ways returned for it.

    - pooled_recall@k: of the k best of the query's pool, the share that the way returned among its first k. Items as good as
      the last of them count like it; a pool of fewer than k counts whole.
    - similarity@k: the mean over the way's first k: the inner product (the cosine where embeddings have length 1), or minus
      the Euclidean distance. A missing item (-1) counts like the worst of the query's pool.

    A query for which no way returned anything is NaN in both.

    Raises:
        SettingsError: no lists, lists of other queries or shorter than k, or k below 1.
        DataError: a pooled item has no new embedding or two; NaN or infinite embeddings.
    """
    first_k = _first(lists, len(new_query_QW), k)
    new_query_QW = checked_embeddings(new_query_QW, "query")
    new_pool_PW = checked_embeddings(new_pool_PW, "pooled item")
    if new_query_QW.shape[1] != new_pool_PW.shape[1] or len(pool_ids_P) != len(new_pool_PW):
        raise SettingsError(
            f"new embeddings {new_query_QW.shape} of queries and {new_pool_PW.shape} of {len(pool_ids_P)} pooled ids; "
            "wanted one per id, all of one dimension"
        )
    order_P = _order_of_ids(pool_ids_P, pool_ids(lists.values()))
    sorted_P = np.asarray(pool_ids_P)[order_P]
    measured = {
        name: {measure: np.full(len(new_query_QW), np.nan) for measure in (f"pooled_recall@{k}", f"similarity@{k}")}
        for name in lists
    }
    for query, new_W in enumerate(new_query_QW):
        ids_U = pool_ids(found_QK[query] for found_QK in lists.values())
        if not ids_U.size:
            continue
        similarity_U = _similarity(new_W, new_pool_PW[order_P[np.searchsorted(sorted_P, ids_U)]], metric)
        wanted = min(k, len(ids_U))
        least = float(np.sort(similarity_U)[-wanted])
        for name, found_QK in first_k.items():
            found = found_QK[query]
            mine = similarity_U[np.searchsorted(ids_U, found[found != NO_NEIGHBOUR])]
            missing = (k - mine.size) * float(similarity_U.min())
            measured[name][f"pooled_recall@{k}"][query] = min(int((mine >= least).sum()), wanted) / wanted
            measured[name][f"similarity@{k}"][query] = (float(mine.sum()) + missing) / k
    return measured


def _similarity(new_W: NDArray[np.float32], new_UW: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """How near the items of a query's pool are to it, float64 [U]; larger is nearer."""
    if metric is Metric.IP:
        return np.asarray(new_UW @ new_W, np.float64)
    distance_U: NDArray[np.float64] = np.sqrt(np.square(new_UW - new_W, dtype=np.float64).sum(axis=1))
    return -distance_U


def _first(lists: Mapping[Name, NDArray[np.int64]], num_queries: int, k: int) -> dict[Name, NDArray[np.int64]]:
    """The first k of every list."""
    if not lists or k < 1:
        raise SettingsError(f"{len(lists)} ways and k of {k}; wanted at least one of each")
    for name, found_QK in lists.items():
        if found_QK.ndim != 2 or len(found_QK) != num_queries or found_QK.shape[1] < k:
            raise SettingsError(
                f"{name}: lists of shape {found_QK.shape}; wanted {num_queries} queries with {k} or more ids each"
            )
    return {name: found_QK[:, :k] for name, found_QK in lists.items()}


def _order_of_ids(pool_ids_P: NDArray[np.int64], wanted_ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order that sorts the ids of the new embeddings, which must be unique and hold all that is wanted."""
    order_P = np.argsort(pool_ids_P, kind="stable")
    sorted_P = np.asarray(pool_ids_P)[order_P]
    repeated = np.flatnonzero(sorted_P[1:] == sorted_P[:-1])
    if repeated.size:
        raise DataError(f"pooled id {sorted_P[repeated[0]]} has two new embeddings; wanted one: remove the other")
    missing = np.setdiff1d(wanted_ids, sorted_P)
    if missing.size:
        raise DataError(
            f"pooled id {missing[0]} has no new embedding ({missing.size:,} of {len(wanted_ids):,} are missing); embed "
            "every pooled item with the new model"
        )
    return order_P
