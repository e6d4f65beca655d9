"""Search that answers with the best item of each group: a document of several vectors, a product of several photos.

    k' nearest items, k' > k --> group of each --> first item of every group --> enough groups? else k' grows

Owns: how many items are asked for, and which of them stay. A group is a value of a carried column, such as `document_id`.
Legend: Q queries, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.key_types import UserIds
from fct_ray.kinds import Metric
from fct_ray.workflows.found_keys import NOT_FOUND

if TYPE_CHECKING:
    from fct_ray.workflows.search import Queries, Searcher

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ITEMS_PER_GROUP = 4
"""How many items are asked for at first for every group that is wanted, and how much more each time they are too few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundGroups:
    """The best item of each group, best first; groups that the gallery does not have are NOT_FOUND."""

    scores_QK: FloatArray
    ids_QK: IntArray
    groups: UserIds
    """The groups of the items [Q x K], flat; null where there is nothing."""


def search_groups(
    searcher: Searcher, queries: Queries, column: str, k: int = 10, nprobe: int | None = None
) -> FoundGroups:
    """The k groups that are nearest to each query, each by its nearest item.

    Items are asked for until every query has k groups, or the index gives no more: an approximate index may miss groups, as
    it may miss items. Items whose group is null are groups of their own.

    Raises:
        SettingsError: as `Searcher.search` does.
        FormatError: the shards have no such column.
    """
    asked, num_rows = k, searcher.manifest.num_rows
    while True:
        asked = min(num_rows, asked * ITEMS_PER_GROUP)
        scores_QA, ids_QA = searcher.search_ids(queries, max(1, asked), nprobe)
        values = searcher.carried(column).of(ids_QA)
        first_QA = _firsts(_codes(values, ids_QA), ids_QA)
        if asked >= num_rows or bool((first_QA.sum(axis=1) >= k).all()):
            return _best(scores_QA, ids_QA, values, first_QA, k, searcher.manifest.metric)


def _codes(values: UserIds, ids_QA: IntArray) -> IntArray:
    """A number for each item's group, [Q, A]; an item without one has a number of its own."""
    indices = values.dictionary_encode().indices
    codes = np.asarray(indices.fill_null(NOT_FOUND).to_numpy(zero_copy_only=False), dtype=np.int64).reshape(
        ids_QA.shape
    )
    return np.where(codes == NOT_FOUND, codes.max(initial=0) + 1 + ids_QA, codes)


def _firsts(codes_QA: IntArray, ids_QA: IntArray) -> npt.NDArray[np.bool_]:
    """Which results are the first of their group for their query."""
    first_QA = np.zeros(codes_QA.shape, dtype=bool)
    for query, codes_A in enumerate(codes_QA):
        _, firsts = np.unique(codes_A, return_index=True)
        first_QA[query, firsts] = True
    return np.asarray(first_QA & (ids_QA != NOT_FOUND))


def _best(
    scores_QA: FloatArray, ids_QA: IntArray, values: UserIds, first_QA: npt.NDArray[np.bool_], k: int, metric: Metric
) -> FoundGroups:
    """The first k of those that are the first of their group."""
    worst = -np.inf if metric is Metric.IP else np.inf
    scores_QK = np.full((len(ids_QA), k), worst, np.float32)
    ids_QK, at_QK = np.full((len(ids_QA), k), NOT_FOUND, np.int64), np.full((len(ids_QA), k), NOT_FOUND, np.int64)
    for query, first_A in enumerate(first_QA):
        kept = np.flatnonzero(first_A)[:k]
        scores_QK[query, : len(kept)], ids_QK[query, : len(kept)] = scores_QA[query, kept], ids_QA[query, kept]
        at_QK[query, : len(kept)] = query * ids_QA.shape[1] + kept
    at = at_QK.ravel()
    return FoundGroups(scores_QK=scores_QK, ids_QK=ids_QK, groups=values.take(pa.array(at, mask=at == NOT_FOUND)))
