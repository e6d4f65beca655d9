"""Evidence from labels over the whole gallery: does a way bring items of the query's class first?

Owns: average precision and top-1 of each query against all labels given. It shows how well "find similar items" works, and
little about "find this one item": a way can bring the right class first and the right item late. Knows no model.

Shapes: Q queries, G gallery.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.evaluation.retrieval import per_query
from fct_ray.evaluation.ways import WayToSearch


def label_measures(
    way: WayToSearch,
    labels_Q: NDArray[Any],
    labels_G: NDArray[Any],
    own_ids_Q: NDArray[np.int64] | None,
    gallery_ids_G: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:
    """Average precision over the full ranking ("map") and "top1" of each query, float64 [Q]; NaN where nothing is relevant.

    A gallery item is relevant if it has the query's label; the item with the query's own id is left out (`own_ids_Q` None:
    queries are not items). Definitions: `retrieval`. Ties go by gallery order.

    Raises:
        SettingsError: shapes do not fit each other, or labels are of two types.
        DataError: NaN or infinite embeddings, or repeated gallery ids.

    Examples:
        >>> from fct_ray.evaluation.ways import doing_nothing
        >>> from fct_ray.values import Metric
        >>> line_GD = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
        >>> way = doing_nothing(line_GD, line_GD, Metric.L2)
        >>> label_measures(way, np.array([5, 6, 5]), np.array([5, 6, 5]), np.arange(3), np.arange(3))["map"]
        array([0.5, nan, 0.5])
    """
    judged = per_query(
        way.query_QD,
        way.gallery_GD,
        labels_Q,
        labels_G,
        metric=way.metric,
        query_ids_Q=own_ids_Q,
        gallery_ids_G=None if own_ids_Q is None else gallery_ids_G,
    )
    measured = {name: np.full(len(way.query_QD), np.nan) for name in ("map", "top1")}
    measured["map"][judged.queries_Q] = judged.average_precision_Q
    measured["top1"][judged.queries_Q] = judged.top1_Q
    return measured
