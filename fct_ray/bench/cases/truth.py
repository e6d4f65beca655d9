"""What a way of searching really finds, over the whole gallery: R@1, R@10 and MRR; precision@10 by labels.

Knows only vectors: (queries, gallery) of any one space, scored by inner product. Ties go to the earlier row, as in
`evaluation.retrieval`. Shapes: Q queries, N gallery rows, D numbers, B queries of a block, K results.

Examples:
    >>> import numpy as np
    >>> found = search(np.eye(3), np.eye(3)[[0, 2, 1]], [(0,), (1,), (2,)])
    >>> round(found.r1, 3), round(found.mrr, 3)
    (0.333, 0.556)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.errors import SettingsError
from fct_ray.evaluation.retrieval import per_query
from fct_ray.kinds import Metric

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
BLOCK_SCORES = 16_000_000
"""Scores held at a time (64 MB)."""
NUM_FIRST = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The results of all queries on the whole gallery."""

    ranks_Q: IdArray
    """The rank of each query's first relevant item, from 1; for paired comparisons."""
    first_QK: IdArray
    """The rows of its first NUM_FIRST results (all, if the gallery is smaller), in no order."""

    @property
    def r1(self) -> float:
        """Share of queries whose first result is relevant."""
        return float((self.ranks_Q == 1).mean())

    @property
    def r10(self) -> float:
        """Share of queries with a relevant item among the first ten."""
        return float((self.ranks_Q <= NUM_FIRST).mean())

    @property
    def mrr(self) -> float:
        """Mean of 1 / rank of the first relevant item, over the full ranking."""
        return float((1 / self.ranks_Q).mean())

    def precision(self, query_labels_Q: IdArray, gallery_labels_N: IdArray) -> float:
        """Share of the first results that have the query's label."""
        return float((gallery_labels_N[self.first_QK] == query_labels_Q[:, None]).mean())

    def shared_with(self, other: Found) -> float:
        """Share of the first results of `other` that are among these."""
        return float((self.first_QK[:, :, None] == other.first_QK[:, None, :]).any(axis=1).mean())


def search(query_QD: FloatArray, gallery_ND: FloatArray, relevant: Sequence[Sequence[int]]) -> Found:
    """Rank the whole gallery for each query; `relevant` are row numbers, at least one for each query.

    Raises:
        SettingsError: a query has no relevant row, or queries and gallery are vectors of two spaces.
    """
    if len(relevant) != len(query_QD) or not all(relevant):
        raise SettingsError(
            f"{len(query_QD)} queries, {sum(map(bool, relevant))} with a relevant row; give all of them"
        )
    if query_QD.shape[1] != gallery_ND.shape[1]:
        raise SettingsError(
            f"queries of {query_QD.shape[1]} numbers on a gallery of {gallery_ND.shape[1]}; give vectors of one space"
        )
    num_first = min(NUM_FIRST, len(gallery_ND))
    ranks_Q = np.zeros(len(query_QD), np.int64)
    first_QK = np.zeros((len(query_QD), num_first), np.int64)
    size = max(1, BLOCK_SCORES // max(1, len(gallery_ND)))
    for start in range(0, len(query_QD), size):
        scores_BN = query_QD[start : start + size] @ gallery_ND.T
        for query, scores_N in enumerate(scores_BN, start):
            rows = np.asarray(sorted(relevant[query]))
            best = int(rows[np.argmax(scores_N[rows])])
            earlier = np.count_nonzero(scores_N[:best] == scores_N[best])
            ranks_Q[query] = 1 + np.count_nonzero(scores_N > scores_N[best]) + earlier
            first_QK[query] = np.argpartition(scores_N, len(scores_N) - num_first)[-num_first:]
    return Found(ranks_Q=ranks_Q, first_QK=first_QK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """All measures of one way on one case, 0 to 1."""

    r1: float
    r10: float
    mrr: float
    precision: float | None
    """The share of the first ten results that have the query's label; None where the case has no labels."""
    neighbours: float
    """Share of the new model's own first ten results, after a full backfill, that this way returns too."""


def truth_of(case: CaseData, query_QD: FloatArray, gallery_ND: FloatArray, backfill: Found | None = None) -> Truth:
    """What searching `gallery_ND` with `query_QD` finds; `backfill` is `backfill_found(case)`, if it is at hand.

    Raises:
        SettingsError: the case has no queries.
    """
    queries = queries_of(case)
    backfill = backfill or backfill_found(case)
    found = search(query_QD, gallery_ND, queries.relevant)
    precision = None
    if queries.labels_Q is not None and case.labels_N is not None:
        precision = found.precision(queries.labels_Q, case.labels_N)
    neighbours = found.shared_with(backfill)
    return Truth(r1=found.r1, r10=found.r10, mrr=found.mrr, precision=precision, neighbours=neighbours)


def keep_truth(case: CaseData, backfill: Found | None = None) -> Truth:
    """Doing nothing: old queries on old vectors. Raises like `truth_of`."""
    return truth_of(case, queries_of(case).old_QO, case.old_NO, backfill)


def backfill_truth(case: CaseData, backfill: Found | None = None) -> Truth:
    """A full backfill: new queries on new vectors. Raises like `truth_of`."""
    return truth_of(case, queries_of(case).new_QW, case.new_NW, backfill)


def backfill_found(case: CaseData) -> Found:
    """The results of a full backfill. Raises like `truth_of`."""
    queries = queries_of(case)
    return search(queries.new_QW, case.new_NW, queries.relevant)


def harm(version: Truth, keep: Truth) -> dict[str, float]:
    """What a version changes against doing nothing, by measure: below zero is harm."""
    changes = {name: getattr(version, name) - getattr(keep, name) for name in ("r1", "r10", "mrr")}
    if version.precision is not None and keep.precision is not None:
        changes["precision"] = version.precision - keep.precision
    return changes


def measured(
    case: CaseData, query_QD: FloatArray, gallery_ND: FloatArray, chosen_C: IdArray
) -> npt.NDArray[np.float64]:
    """What each of the chosen queries [C] finds, 0 to 1, by the measure of the case's task.

    1 / rank of the first relevant item (known items), or average precision by labels over the full ranking (similar ones).

    Raises:
        SettingsError: the case has no queries, or no labels where its task wants them.
    """
    queries = queries_of(case)
    if case.task is CaseTask.KNOWN_ITEM:
        return 1 / search(query_QD[chosen_C], gallery_ND, [queries.relevant[place] for place in chosen_C]).ranks_Q
    if queries.labels_Q is None or case.labels_N is None:
        raise SettingsError(f"case {case.name} has no labels, so nothing says which items are similar")
    labels_C = queries.labels_Q[chosen_C]
    return per_query(query_QD[chosen_C], gallery_ND, labels_C, case.labels_N, metric=Metric.IP).average_precision_Q


def queries_of(case: CaseData) -> Queries:
    """The queries of a case. Raises SettingsError if it has none."""
    if case.queries is None:
        raise SettingsError(f"case {case.name} has no queries, so nothing can be searched")
    return case.queries
