"""Evidence from real queries: does a way to search find what people looked for, in the whole gallery?

Owns: queries with their relevant items, and recall, reciprocal rank and nDCG of each query, by the library ir_measures
(pytrec_eval, which is trec_eval). The ranks are exact, with ties counted against the way (`item_ranks`). Knows no model,
no file.

A gallery may be a random sample of the whole one that holds all relevant items. An item at rank r of a sample that holds
the share s of the whole stands at about rank 1 + (r - 1) / s of the whole: "recall@10" in a sample of a tenth is about
recall@91. Measures of a sample are therefore those of an easier gallery, and can rank ways in another order than those of
the whole (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020). `whole_gallery_k` says what a
report must name.

Shapes: Q queries, R relevant items of all queries, G gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation.item_ranks import NOT_IN_GALLERY, item_ranks
from fct_ray.evaluation.ways import WayToSearch

DEPTH = 100
"""Ranks below this one count as not found."""
MAX_GRADE = 1000
"""Grades become whole numbers up to this one: trec_eval takes no others, and its time grows with the greatest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedQueries:
    """Queries and what is relevant for them; the items of query q are `relevant_ids_R[offsets[q]:offsets[q + 1]]`.

    Raises:
        SettingsError: arrays of unequal lengths.
        DataError: a query has no relevant item or one twice, or a grade is not positive and finite; names the query.
    """

    ids_Q: NDArray[Any]
    """Numbers or strings that name the queries."""
    relevant_offsets_Q1: NDArray[np.int64]
    relevant_ids_R: NDArray[np.int64]
    grades_R: NDArray[np.float32]
    """Positive; 1 where nobody graded."""
    groups_Q: NDArray[np.int64] | None = None
    """A group for each query, for the worst one; None: not grouped."""

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        """How many queries."""
        return len(self.ids_Q)

    @classmethod
    def of(
        cls,
        relevant: Sequence[Sequence[int]],
        grades: Sequence[Sequence[float]] | None = None,
        *,
        ids: Sequence[int] | Sequence[str] | NDArray[Any] | None = None,
        groups: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> JudgedQueries:
        """Queries from lists: the relevant ids of each, their grades (None: all 1), names (None: 0, 1, ...), groups.

        Raises:
            SettingsError, DataError: as the class says.

        Examples:
            >>> JudgedQueries.of([[7], [8, 9]]).relevant_offsets_Q1
            array([0, 1, 3])
        """
        lengths_Q = np.array([len(items) for items in relevant], np.int64)
        grade_lists = [[1.0] * len(items) for items in relevant] if grades is None else grades
        if [len(row) for row in grade_lists] != lengths_Q.tolist():
            raise SettingsError("grades and relevant items have unequal lengths; give one grade per relevant item")
        for what, values in (("names", ids), ("groups", groups)):
            if values is not None and len(values) != len(relevant):
                raise SettingsError(f"{len(values)} {what} for {len(relevant)} queries; give one per query")
        return cls(
            ids_Q=np.arange(len(relevant)) if ids is None else np.asarray(ids),
            relevant_offsets_Q1=np.concatenate([[0], np.cumsum(lengths_Q)]).astype(np.int64),
            relevant_ids_R=np.array([item for items in relevant for item in items], np.int64),
            grades_R=np.array([grade for row in grade_lists for grade in row], np.float32),
            groups_Q=None if groups is None else np.asarray(groups, np.int64),
        )

    def take(self, positions: NDArray[np.integer] | Sequence[int]) -> JudgedQueries:
        """Some of the queries, by position, in this order: for instance the half that chooses and the half that judges."""
        at_Q = np.asarray(positions, np.int64)
        lengths_Q = np.diff(self.relevant_offsets_Q1)[at_Q]
        offsets_Q1 = np.concatenate([[0], np.cumsum(lengths_Q)]).astype(np.int64)
        start_R = np.repeat(self.relevant_offsets_Q1[at_Q] - offsets_Q1[:-1], lengths_Q)
        items_R = start_R + np.arange(offsets_Q1[-1])
        return JudgedQueries(
            ids_Q=self.ids_Q[at_Q],
            relevant_offsets_Q1=offsets_Q1,
            relevant_ids_R=self.relevant_ids_R[items_R],
            grades_R=self.grades_R[items_R],
            groups_Q=None if self.groups_Q is None else self.groups_Q[at_Q],
        )


def query_measures(
    way: WayToSearch,
    gallery_ids_G: NDArray[np.int64],
    queries: JudgedQueries,
    *,
    k: int = 10,
    own_ids: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """How well a way finds what is relevant: "recall@1", "recall@{k}", "mrr" and "ndcg@{k}" of each query, float64 [Q].

    - recall@1: 1 if the first item is relevant, else 0 (Success@1; for one relevant item this is its recall);
    - recall@k: the share of the relevant items among the first k;
    - mrr: 1 / rank of the first relevant item, 0 below rank 100;
    - ndcg@k: gains are the grades, discounted by log2(1 + rank), divided by the best order's sum.

    Relevant items that the gallery does not hold are left out; a query with none in the gallery is NaN in all measures.
    Ties count against the way. `own_ids` [Q] leaves the item with the query's own id out, where
    queries are items of the gallery. Where the gallery is a sample, k means `whole_gallery_k(k, share)` of the whole.

    Raises:
        SettingsError: k is not between 1 and 100, or shapes do not fit each other.
        DataError: NaN or infinite embeddings, or repeated gallery ids.
    """
    ranks_R = item_ranks(way, gallery_ids_G, queries.relevant_offsets_Q1, queries.relevant_ids_R, own_ids_Q=own_ids)
    return measures_of_ranks(ranks_R, queries, k=k)


def measures_of_ranks(
    ranks_R: NDArray[np.int64], queries: JudgedQueries, *, k: int = 10
) -> dict[str, NDArray[np.float64]]:
    """The measures of `query_measures` from the ranks of the relevant items, int64 [R] (0: not in the gallery).

    Examples:
        >>> measures_of_ranks(np.array([2]), JudgedQueries.of([[7]]))["mrr"]
        array([0.5])
    """
    if not 1 <= k <= DEPTH:
        raise SettingsError(f"k is {k}; wanted 1 to {DEPTH}, the depth of the lists")
    import ir_measures

    names = {
        ir_measures.Success @ 1: "recall@1",
        ir_measures.R @ k: f"recall@{k}",
        ir_measures.RR: "mrr",
        ir_measures.nDCG @ k: f"ndcg@{k}",
    }
    judged, lists = _trec(ranks_R, queries)
    measured = {name: np.full(len(queries), np.nan) for name in ("recall@1", f"recall@{k}", "mrr", f"ndcg@{k}")}
    if judged:
        wanted = [measure for measure, name in names.items() if not (k == 1 and measure == ir_measures.R @ 1)]
        for found in ir_measures.pytrec_eval.evaluator(wanted, judged).iter_calc(lists):
            measured[names[found.measure]][int(found.query_id)] = found.value
    return measured


def whole_gallery_k(k: int, share: float) -> float:
    """Which k of the whole gallery the k of a sample stands for: 1 + (k - 1) / share, where the sample holds this share.

    recall@1 stays recall@1 by this rule, but of an easier gallery: the items left out might have come before.

    Raises:
        SettingsError: k is below 1, or the share is not in (0, 1].

    Examples:
        >>> whole_gallery_k(10, 0.1), whole_gallery_k(10, 1.0)
        (91.0, 10.0)
    """
    if k < 1 or not 0 < share <= 1:
        raise SettingsError(
            f"k is {k} and the sample's share {share}; wanted k of at least 1 and a share above 0, at most 1"
        )
    return 1 + (k - 1) / share


def _check(queries: JudgedQueries) -> None:
    """Refuse queries that cannot be judged. Raises like the class."""
    offsets_Q1, num_items = queries.relevant_offsets_Q1, len(queries.relevant_ids_R)
    grouped = queries.groups_Q is None or len(queries.groups_Q) == len(queries)
    if (
        len(offsets_Q1) != len(queries) + 1
        or offsets_Q1[-1] != num_items
        or len(queries.grades_R) != num_items
        or not grouped
    ):
        raise SettingsError(
            f"{len(queries)} queries, offsets of shape {offsets_Q1.shape}, {num_items} relevant items and "
            f"{len(queries.grades_R)} grades do not belong together; give one offset more than queries, one grade per item, "
            "one group per query"
        )
    lengths_Q = np.diff(offsets_Q1)
    empty = np.flatnonzero(lengths_Q < 1)
    if empty.size:
        raise DataError(
            f"query {queries.ids_Q[empty[0]]} (row {empty[0]}) has no relevant item ({empty.size} such queries in all); "
            "wanted one or more ids: leave these queries out"
        )
    query_R = np.repeat(np.arange(len(lengths_Q)), lengths_Q)
    bad = np.flatnonzero(~(np.isfinite(queries.grades_R) & (queries.grades_R > 0)))
    if bad.size:
        row = query_R[bad[0]]
        raise DataError(
            f"query {queries.ids_Q[row]} (row {row}): a grade is {queries.grades_R[bad[0]]}; wanted a positive number: "
            "leave items out that are not relevant"
        )
    order_R = np.lexsort((queries.relevant_ids_R, query_R))
    ids_R = queries.relevant_ids_R[order_R]
    repeated = np.flatnonzero((ids_R[1:] == ids_R[:-1]) & (query_R[order_R][1:] == query_R[order_R][:-1]))
    if repeated.size:
        row = query_R[order_R[repeated[0]]]
        raise DataError(
            f"query {queries.ids_Q[row]} (row {row}) lists item {ids_R[repeated[0]]} twice; wanted each item once"
        )


def _trec(
    ranks_R: NDArray[np.int64], queries: JudgedQueries
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Judgements and lists of the queries that can be judged, as trec_eval takes them; other items are named by rank."""
    grades_R, offsets = _whole_grades(queries), queries.relevant_offsets_Q1
    judged, lists = dict[str, dict[str, int]](), dict[str, dict[str, float]]()
    others = {f"rank {rank}": -float(rank) for rank in range(1, DEPTH + 1)}
    for query in range(len(queries)):
        items = np.arange(offsets[query], offsets[query + 1])
        items = items[ranks_R[items] != NOT_IN_GALLERY]
        if items.size == 0:
            continue
        ranked = dict(others)
        for item, rank in zip(items.tolist(), ranks_R[items].tolist(), strict=True):
            if rank <= DEPTH:
                del ranked[f"rank {rank}"]
                ranked[str(item)] = -float(rank)
        judged[str(query)] = {str(item): int(grades_R[item]) for item in items.tolist()}
        lists[str(query)] = ranked
    return judged, lists


def _whole_grades(queries: JudgedQueries) -> NDArray[np.int64]:
    """Grades as whole numbers from 1: as they are if they are so, else in thousandths of the query's greatest, int64 [R].

    nDCG does not change if all grades of a query are multiplied by one number.
    """
    grades_R = queries.grades_R.astype(np.float64)
    if not grades_R.size or (grades_R.max() <= MAX_GRADE and (grades_R == np.rint(grades_R)).all()):
        return grades_R.astype(np.int64)
    lengths_Q = np.diff(queries.relevant_offsets_Q1)
    greatest_Q = np.maximum.reduceat(grades_R, queries.relevant_offsets_Q1[:-1])
    scaled_R = np.rint(grades_R / np.repeat(greatest_Q, lengths_Q) * MAX_GRADE)
    whole_R: NDArray[np.int64] = np.maximum(scaled_R, 1).astype(np.int64)
    return whole_R
