"""What a way of searching really finds, over the whole gallery: R@1, R@10 and MRR; precision@10 by labels.

Knows only vectors: (queries, gallery) of any one space, scored by inner product. Ties go to the earlier row, as in
`evaluation.retrieval`. Shapes: Q queries, N gallery rows, D numbers, B queries of a block, K results.

Examples:
    >>> import numpy as np
    >>> found = known_item(np.eye(3), np.eye(3)[[0, 2, 1]], [(0,), (1,), (2,)])
    >>> round(found.r1, 3), round(found.mrr, 3)
    (0.333, 0.611)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, Queries
from fct_ray.errors import SettingsError

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
BLOCK_SCORES = 16_000_000
"""Scores held at a time (64 MB)."""
PRECISION_ITEMS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownItem:
    """How well the relevant items were found: means over queries, 0 to 1."""

    r1: float
    """Share of queries whose first result is relevant."""
    r10: float
    """Share of queries with a relevant item among the first ten."""
    mrr: float
    """Mean of 1 / rank of the first relevant item, over the full ranking."""
    ranks_Q: IdArray
    """That rank of each query, from 1; for paired comparisons."""


def known_item(query_QD: FloatArray, gallery_ND: FloatArray, relevant: Sequence[Sequence[int]]) -> KnownItem:
    """Rank the whole gallery for each query; `relevant` are row numbers, at least one for each query.

    Raises:
        SettingsError: a query has no relevant row.
    """
    if len(relevant) != len(query_QD) or not all(relevant):
        raise SettingsError(
            f"{len(query_QD)} queries, {sum(map(bool, relevant))} with a relevant row; give all of them"
        )
    ranks_Q = np.zeros(len(query_QD), np.int64)
    for start, scores_BN in _score_blocks(query_QD, gallery_ND):
        for offset, scores_N in enumerate(scores_BN):
            rows = np.asarray(sorted(relevant[start + offset]))
            best = int(rows[np.argmax(scores_N[rows])])
            earlier = np.count_nonzero(scores_N[:best] == scores_N[best])
            ranks_Q[start + offset] = 1 + np.count_nonzero(scores_N > scores_N[best]) + earlier
    return KnownItem(
        r1=float((ranks_Q == 1).mean()),
        r10=float((ranks_Q <= 10).mean()),
        mrr=float((1 / ranks_Q).mean()),
        ranks_Q=ranks_Q,
    )


def class_precision(
    query_QD: FloatArray, gallery_ND: FloatArray, query_labels_Q: IdArray, gallery_labels_N: IdArray
) -> float:
    """Share of the first PRECISION_ITEMS results that have the query's label."""
    shares: list[npt.NDArray[np.float64]] = []
    for start, scores_BN in _score_blocks(query_QD, gallery_ND):
        found_BK = _first_rows(scores_BN, PRECISION_ITEMS)
        labels_B = query_labels_Q[start : start + len(scores_BN), None]
        shares.append((gallery_labels_N[found_BK] == labels_B).mean(axis=1))
    return float(np.concatenate(shares).mean())


def neighbour_recall(query_QD: FloatArray, gallery_ND: FloatArray, new_QW: FloatArray, new_NW: FloatArray) -> float:
    """Share of the new model's own first PRECISION_ITEMS results, after a full backfill, that this way returns too."""
    shares: list[npt.NDArray[np.float64]] = []
    blocks = zip(_score_blocks(query_QD, gallery_ND), _score_blocks(new_QW, new_NW), strict=True)
    for (_, scores_BN), (_, true_BN) in blocks:
        found_BK, wanted_BK = _first_rows(scores_BN, PRECISION_ITEMS), _first_rows(true_BN, PRECISION_ITEMS)
        shares.append((found_BK[:, :, None] == wanted_BK[:, None, :]).any(axis=2).mean(axis=1))
    return float(np.concatenate(shares).mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """All measures of one way on one case; None where the case has no labels."""

    r1: float
    r10: float
    mrr: float
    precision: float | None
    neighbours: float
    """See `neighbour_recall`."""


def truth_of(case: CaseData, query_QD: FloatArray, gallery_ND: FloatArray) -> Truth:
    """What searching `gallery_ND` with `query_QD` finds.

    Raises:
        SettingsError: the case has no queries.
    """
    queries = _queries_of(case)
    found = known_item(query_QD, gallery_ND, queries.relevant)
    precision = None
    if queries.labels_Q is not None and case.labels_N is not None:
        precision = class_precision(query_QD, gallery_ND, queries.labels_Q, case.labels_N)
    neighbours = neighbour_recall(query_QD, gallery_ND, queries.new_QW, case.new_NW)
    return Truth(r1=found.r1, r10=found.r10, mrr=found.mrr, precision=precision, neighbours=neighbours)


def keep_truth(case: CaseData) -> Truth:
    """Doing nothing: old queries on old vectors. Raises like `truth_of`."""
    return truth_of(case, _queries_of(case).old_QO, case.old_NO)


def backfill_truth(case: CaseData) -> Truth:
    """A full backfill: new queries on new vectors. Raises like `truth_of`."""
    return truth_of(case, _queries_of(case).new_QW, case.new_NW)


def harm(version: Truth, keep: Truth) -> dict[str, float]:
    """What a version changes against doing nothing, by measure: below zero is harm."""
    changes = {name: getattr(version, name) - getattr(keep, name) for name in ("r1", "r10", "mrr")}
    if version.precision is not None and keep.precision is not None:
        changes["precision"] = version.precision - keep.precision
    return changes


def _queries_of(case: CaseData) -> Queries:
    if case.queries is None:
        raise SettingsError(f"case {case.name} has no queries, so nothing can be searched")
    return case.queries


def _score_blocks(query_QD: FloatArray, gallery_ND: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """(first query, scores [B, N]) of blocks of queries; the blocks depend on the counts alone."""
    if query_QD.shape[1] != gallery_ND.shape[1]:
        raise SettingsError(
            f"queries of {query_QD.shape[1]} numbers on a gallery of {gallery_ND.shape[1]}; give vectors of one space"
        )
    size = max(1, BLOCK_SCORES // max(1, len(gallery_ND)))
    for start in range(0, len(query_QD), size):
        yield start, query_QD[start : start + size] @ gallery_ND.T


def _first_rows(scores_BN: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """The rows of the `count` best scores (all, if there are fewer), [B, K], in no order."""
    if scores_BN.shape[1] <= count:
        return np.broadcast_to(np.arange(scores_BN.shape[1]), scores_BN.shape)
    return np.argpartition(-scores_BN, count - 1, axis=1)[:, :count]
