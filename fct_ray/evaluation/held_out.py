"""Evidence from held-out pairs alone: every item queries the gallery of all held-out items, itself excluded.

Owns: agreement with the new model and, with labels, average precision of every way on every held-out item. Provisional:
items are no queries, and this gallery is as small as the pairs are few.

Shapes: Q held-out items, which are queries and gallery; W dimensions of new; K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fct_ray.evaluation.agreement import neighbour_agreement, top_k
from fct_ray.evaluation.retrieval import PerQuery, per_query
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.judgements import CompatibilityRow

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutItems:
    """The items whose vectors all ways bring, in this order."""

    ids_Q: NDArray[np.int64]
    labels_Q: NDArray[np.int64] | None
    """None: judged by agreement with the new model alone."""


class HeldOutMeasures:
    """Measures of ways on held-out items: "agreement@k" and, with enough labels, "map" and "top1"; and table rows."""

    def __init__(self, items: HeldOutItems, *, ceiling: WayToSearch, k: int, min_labelled: int) -> None:
        """`ceiling` is the new model on true new embeddings. Labels count where `min_labelled` items share theirs.

        Raises:
            SettingsError: k is not between 1 and the number of items that can be found, or shapes do not fit.
            DataError: NaN or infinite embeddings, or repeated ids.
        """
        self.items, self.k = items, k
        self.labels_Q = items.labels_Q if num_with_relevant(items.labels_Q) >= min_labelled else None
        self.reference_QK = self._neighbours(ceiling)
        self.rows: list[CompatibilityRow] = []

    def __call__(self, way: WayToSearch) -> Mapping[str, Values]:
        """Every measure of a way, float64 [Q]; NaN where a query has nothing relevant to find."""
        agreement_Q = neighbour_agreement(self.reference_QK, self._neighbours(way))
        if self.labels_Q is None:
            return {f"agreement@{self.k}": agreement_Q}
        judged = per_query(
            way.query_QD,
            way.gallery_GD,
            self.labels_Q,
            self.labels_Q,
            metric=way.metric,
            query_ids_Q=self.items.ids_Q,
            gallery_ids_G=self.items.ids_Q,
        )
        self.rows.append(way.row(judged.quality()))
        return {
            f"agreement@{self.k}": agreement_Q,
            "map": _spread(judged, judged.average_precision_Q),
            "top1": _spread(judged, judged.top1_Q),
        }

    def _neighbours(self, way: WayToSearch) -> NDArray[np.intp]:
        ids_Q = self.items.ids_Q
        return top_k(way.query_QD, way.gallery_GD, self.k, metric=way.metric, query_ids_Q=ids_Q, gallery_ids_G=ids_Q)


def num_with_relevant(labels_Q: NDArray[np.int64] | None) -> int:
    """Items that share their label with another one: only they can be judged by label."""
    if labels_Q is None:
        return 0
    _, counts = np.unique(labels_Q, return_counts=True)
    return int(counts[counts > 1].sum())


def _spread(judged: PerQuery, values_E: ArrayLike) -> Values:
    """One value per query; NaN where the query had nothing relevant to find."""
    values_Q = np.full(len(judged.queries_Q) + judged.num_without_relevant, np.nan)
    values_Q[judged.queries_Q] = values_E
    return values_Q
