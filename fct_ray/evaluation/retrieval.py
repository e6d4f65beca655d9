"""Retrieval quality over the full ranking: CMC top-1, CMC top-5 and mean average precision.

Definitions. A query q with label y ranks the whole gallery, best score first, ties by gallery order; the item with
q's own id, if ids are given, is removed first. An item is relevant if its label is y; R_q is their number.

- CMC top-k of q is 1 if any of the first k items is relevant, else 0; CMC top-k is the mean over queries.
- AP of q = 1/R_q * sum over relevant items i of (relevant items at or before rank_i) / rank_i, over the full ranking,
  without interpolation and without cut-off.
- mAP is the mean of AP over queries.

Queries with R_q = 0 have no AP: they are left out of all three measures, and counted. The protocol is that of the FCT
paper (Ramanujan et al., CVPR 2022). Knows no model, no store, no index. Memory is bounded: blocks of queries.

Shapes: Q queries, G gallery, D dimensions, E evaluated queries (those with a relevant item), B queries of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import SettingsError
from fct_ray.evaluation.ranking import own_positions, positions, ranking_keys
from fct_ray.judgements import RetrievalQuality
from fct_ray.kinds import Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class PerQuery:
    """The measures of each evaluated query, in query order; here Q counts evaluated queries only.

    Which queries are evaluated depends on labels and ids alone: two runs over the same queries and gallery items
    with other embeddings can be compared entry by entry.
    """

    queries_Q: NDArray[np.intp]
    """Positions of the evaluated queries among all queries, ascending."""
    top1_Q: NDArray[np.bool_]
    top5_Q: NDArray[np.bool_]
    average_precision_Q: NDArray[np.float64]
    num_without_relevant: int
    """Queries left out because the gallery holds nothing relevant for them."""

    def quality(self) -> RetrievalQuality:
        """The means over the evaluated queries.

        Raises:
            SettingsError: no query has a relevant item, so that there is nothing to average.
        """
        if not self.queries_Q.size:
            raise SettingsError(
                f"none of the {self.num_without_relevant} queries has a relevant item in the gallery; "
                "check that both carry labels of the same classes"
            )
        return RetrievalQuality(
            top1=float(self.top1_Q.mean()), top5=float(self.top5_Q.mean()), map=float(self.average_precision_Q.mean())
        )


def per_query(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    query_labels_Q: NDArray[Any] | Sequence[Any],
    gallery_labels_G: NDArray[Any] | Sequence[Any],
    *,
    metric: Metric,
    query_ids_Q: NDArray[np.int64] | None = None,
    gallery_ids_G: NDArray[np.int64] | None = None,
) -> PerQuery:
    """Top-1, top-5 and AP of every query that has a relevant item (see the module for the definitions).

    Args:
        query_QD: float32 [Q, D].
        gallery_GD: float32 [G, D].
        query_labels_Q: one label per query, integers or strings.
        gallery_labels_G: one label per gallery item, of the same type.
        metric: inner product or squared Euclidean distance.
        query_ids_Q: with `gallery_ids_G`, excludes each query's own item.
        gallery_ids_G: unique ids of the gallery items.

    Raises:
        SettingsError: shapes do not fit each other.
        DataError: NaN or infinite embeddings, or repeated gallery ids.
    """
    query_codes_Q, gallery_codes_G = _label_codes(query_QD, gallery_GD, query_labels_Q, gallery_labels_G)
    own_Q = own_positions(len(query_QD), len(gallery_GD), query_ids_Q, gallery_ids_G)
    num_relevant_Q = _num_relevant(query_codes_Q, gallery_codes_G, own_Q)
    evaluated_Q = num_relevant_Q > 0
    queries_E = np.flatnonzero(evaluated_Q)
    top1_E = np.zeros(queries_E.size, np.bool_)
    top5_E = np.zeros(queries_E.size, np.bool_)
    average_precision_E = np.zeros(queries_E.size)
    blocks = ranking_keys(
        np.asarray(query_QD)[queries_E],
        gallery_GD,
        metric=metric,
        query_ids_Q=None if query_ids_Q is None else np.asarray(query_ids_Q)[queries_E],
        gallery_ids_G=gallery_ids_G,
    )
    for rows, keys_BG in blocks:
        keys_BG.sort(axis=1)
        relevant_BG = gallery_codes_G[positions(keys_BG)] == query_codes_Q[queries_E[rows], None]
        _drop_own(relevant_BG, own_Q[queries_E[rows]])
        top1_E[rows] = relevant_BG[:, 0]
        top5_E[rows] = relevant_BG[:, :5].any(axis=1)
        average_precision_E[rows] = _average_precision(relevant_BG)
    return PerQuery(
        queries_Q=queries_E,
        top1_Q=top1_E,
        top5_Q=top5_E,
        average_precision_Q=average_precision_E,
        num_without_relevant=int((~evaluated_Q).sum()),
    )


def retrieval_quality(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    query_labels_Q: NDArray[Any] | Sequence[Any],
    gallery_labels_G: NDArray[Any] | Sequence[Any],
    *,
    metric: Metric,
    query_ids_Q: NDArray[np.int64] | None = None,
    gallery_ids_G: NDArray[np.int64] | None = None,
) -> RetrievalQuality:
    """CMC top-1, CMC top-5 and mAP as shares of 1: the means of `per_query`; same arguments, same errors.

    Examples:
        >>> vectors = np.eye(4, dtype=np.float32)
        >>> found = retrieval_quality(vectors[:1], vectors, ["cat"], ["cat", "dog", "cat", "dog"], metric=Metric.IP)
        >>> found.top1, round(found.map, 3)
        (1.0, 0.833)
    """
    return per_query(
        query_QD,
        gallery_GD,
        query_labels_Q,
        gallery_labels_G,
        metric=metric,
        query_ids_Q=query_ids_Q,
        gallery_ids_G=gallery_ids_G,
    ).quality()


def _average_precision(relevant_BG: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AP of each row of a ranking, best first; every row has at least one relevant item."""
    row_R, column_R = np.nonzero(relevant_BG)
    num_relevant_B = np.bincount(row_R, minlength=len(relevant_BG))
    first_B = np.cumsum(num_relevant_B) - num_relevant_B
    so_far_R = np.arange(1, row_R.size + 1) - first_B[row_R]
    sums_B = np.bincount(row_R, weights=so_far_R / (column_R + 1.0), minlength=len(relevant_BG))
    average_B: NDArray[np.float64] = sums_B / num_relevant_B
    return average_B


def _drop_own(relevant_BG: NDArray[np.bool_], own_B: NDArray[np.intp]) -> None:
    """The query's own item is ranked last: it is not relevant."""
    relevant_BG[own_B >= 0, -1] = False


def _num_relevant(
    query_codes_Q: NDArray[np.int32], gallery_codes_G: NDArray[np.int32], own_Q: NDArray[np.intp]
) -> NDArray[np.int64]:
    num_codes = int(max(query_codes_Q.max(initial=-1), gallery_codes_G.max(initial=-1))) + 1
    num_Q: NDArray[np.int64] = np.bincount(gallery_codes_G, minlength=max(num_codes, 1))[query_codes_Q].astype(np.int64)
    present_Q = np.flatnonzero(own_Q >= 0)
    num_Q[present_Q] -= gallery_codes_G[own_Q[present_Q]] == query_codes_Q[present_Q]
    return num_Q


def _label_codes(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    query_labels_Q: NDArray[Any] | Sequence[Any],
    gallery_labels_G: NDArray[Any] | Sequence[Any],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Labels of both sides as dense codes of one alphabet."""
    labels_Q, labels_G = np.asarray(query_labels_Q), np.asarray(gallery_labels_G)
    if labels_Q.shape != (len(query_QD),) or labels_G.shape != (len(gallery_GD),):
        raise SettingsError(
            f"labels of shape {labels_Q.shape} and {labels_G.shape} for {len(query_QD)} queries and "
            f"{len(gallery_GD)} gallery items; give one label per embedding"
        )
    if labels_Q.size and labels_G.size and (labels_Q.dtype.kind in "US") != (labels_G.dtype.kind in "US"):
        raise SettingsError(
            f"query labels are {labels_Q.dtype} and gallery labels {labels_G.dtype}; "
            "both must be integers or both strings"
        )
    codes = np.unique(np.concatenate([labels_Q, labels_G]), return_inverse=True)[1].reshape(-1).astype(np.int32)
    return codes[: len(labels_Q)], codes[len(labels_Q) :]
