"""Evidence from held-out pairs: every item queries the gallery of all held-out items, itself excluded.

Owns: the scores of every way to search on every held-out item. Whether they suffice is decided elsewhere. Knows no model:
a way brings the vectors of its queries and of its gallery.

Shapes: Q held-out items, which are queries and gallery; W dimensions of new; K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fct_ray.evaluation.agreement import neighbour_agreement, top_k
from fct_ray.evaluation.retrieval import PerQuery, per_query
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.values import CompatibilityRow, Method, QueryScores


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutItems:
    """The items whose vectors all ways bring, in this order."""

    ids_Q: NDArray[np.int64]
    labels_Q: NDArray[np.int64] | None
    """None: judged by agreement with the new model alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was measured of every way."""

    scores: Mapping[Method, QueryScores]
    """By method, over the same queries in the same order."""
    rows: tuple[CompatibilityRow, ...]
    """The compatibility table; empty where labels are missing or too few."""


def held_out_evidence(
    ways: Sequence[WayToSearch],
    items: HeldOutItems,
    *,
    ceiling: WayToSearch,
    cosines: Mapping[Method, float],
    k: int,
    min_labelled: int,
) -> Evidence:
    """Agreement with the ceiling's own top-k for every way and item and, with enough labels, average precision and top-1.

    `cosines` are those of h's outputs and the true new embeddings, by method. Labels count only where at least
    `min_labelled` items share theirs with another one.

    Raises:
        SettingsError: k is not between 1 and the number of items that can be found, or shapes do not fit.
        DataError: NaN or infinite embeddings, or repeated ids.
    """
    labels_Q = items.labels_Q if _num_with_relevant(items.labels_Q) >= min_labelled else None
    reference_QK = _neighbours(ceiling, items, k)
    scores, rows = dict[Method, QueryScores](), []
    for way in ways:
        agreement_Q = neighbour_agreement(reference_QK, _neighbours(way, items, k))
        cosine = cosines.get(way.method, 0.0)
        if labels_Q is None:
            scores[way.method] = QueryScores(agreement_Q=agreement_Q, cosine=cosine)
            continue
        judged = per_query(
            way.query_QD,
            way.gallery_GD,
            labels_Q,
            labels_Q,
            metric=way.metric,
            query_ids_Q=items.ids_Q,
            gallery_ids_G=items.ids_Q,
        )
        scores[way.method] = QueryScores(
            agreement_Q=agreement_Q,
            average_precision_Q=_spread(judged, judged.average_precision_Q, np.nan),
            top1_right_Q=_spread(judged, judged.top1_Q, 0.0) > 0,
            cosine=cosine,
        )
        rows.append(way.row(judged.quality()))
    return Evidence(scores=scores, rows=tuple(rows))


def _neighbours(way: WayToSearch, items: HeldOutItems, k: int) -> NDArray[np.intp]:
    return top_k(way.query_QD, way.gallery_GD, k, metric=way.metric, query_ids_Q=items.ids_Q, gallery_ids_G=items.ids_Q)


def _num_with_relevant(labels_Q: NDArray[np.int64] | None) -> int:
    """Items that share their label with another one: only they can be judged by label."""
    if labels_Q is None:
        return 0
    _, counts = np.unique(labels_Q, return_counts=True)
    return int(counts[counts > 1].sum())


def _spread(judged: PerQuery, values_E: ArrayLike, missing: float) -> NDArray[np.float64]:
    """One value per query; `missing` where the query had nothing relevant to find."""
    values_Q = np.full(len(judged.queries_Q) + judged.num_without_relevant, missing)
    values_Q[judged.queries_Q] = values_E
    return values_Q
