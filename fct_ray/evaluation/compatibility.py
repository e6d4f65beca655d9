"""The compatibility table: what every way to search is worth on labelled queries, and what share of the gain it recovers.

recovered share = (method - old/old) / (new/new - old/old): 0 is doing nothing, 1 is the full backfill, below 0 is
harm. Knows no model and no store. Shapes: Q queries, G gallery items, N rows, D dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import SettingsError
from fct_ray.evaluation.retrieval import retrieval_quality
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.judgements import CompatibilityRow, RecoveredShare
from fct_ray.kinds import Method

logger = logging.getLogger(__name__)


def compatibility_rows(
    ways: Iterable[WayToSearch],
    *,
    query_labels_Q: NDArray[Any],
    gallery_labels_G: NDArray[Any],
    query_ids_Q: NDArray[np.int64],
    gallery_ids_G: NDArray[np.int64],
) -> tuple[CompatibilityRow, ...]:
    """CMC top-1, top-5 and mAP of every way, in their order, for labelled queries on a labelled gallery.

    The ways are taken one at a time: a generator keeps only one gallery in memory. An item with a query's own id does not
    count for that query.

    Raises:
        SettingsError: shapes do not fit each other, or no query has a relevant item.
        DataError: NaN or infinite embeddings, or repeated gallery ids.
    """
    return tuple(
        way.row(
            retrieval_quality(
                way.query_QD,
                way.gallery_GD,
                query_labels_Q,
                gallery_labels_G,
                metric=way.metric,
                query_ids_Q=query_ids_Q,
                gallery_ids_G=gallery_ids_G,
            )
        )
        for way in ways
    )


def recovered_shares(rows: Sequence[CompatibilityRow]) -> dict[Method, RecoveredShare]:
    """Recovered share of top-1 and mAP of every method but `old_old` and `new_new`, keyed by method, in row order.

    Where new/new equals old/old in top-1 or in mAP there is nothing to recover and the share does not exist:
    the result is empty and the log says so.

    Raises:
        SettingsError: `old_old` or `new_new` is missing, or a method occurs twice.

    Examples:
        >>> def row(method, top1, mean_ap):
        ...     return CompatibilityRow(
        ...         method=method, query="", gallery="", side_information=True, top1=top1, top5=1.0, map=mean_ap
        ...     )
        >>> recovered_shares([row("old_old", 0.4, 0.2), row("fct_side", 0.6, 0.5), row("new_new", 0.8, 0.6)])["fct_side"].map
        0.75
    """
    by_method = {row.method: row for row in rows}
    if len(by_method) != len(rows):
        raise SettingsError(f"methods {', '.join(row.method for row in rows)} repeat; give one row per method")
    missing = [method for method in (Method.OLD_OLD, Method.NEW_NEW) if method not in by_method]
    if missing:
        raise SettingsError(
            f"rows {', '.join(by_method)} lack {', '.join(missing)}; measure them: recovered shares are relative to them"
        )
    old, new = by_method[Method.OLD_OLD], by_method[Method.NEW_NEW]
    top1_gain, map_gain = new.top1 - old.top1, new.map - old.map
    if top1_gain == 0 or map_gain == 0:
        logger.warning(
            "no recovered shares: new/new equals old/old (top-1 %.4f and %.4f, mAP %.4f and %.4f), nothing to recover",
            new.top1, old.top1, new.map, old.map,
        )  # fmt: skip
        return {}
    return {
        row.method: RecoveredShare(top1=(row.top1 - old.top1) / top1_gain, map=(row.map - old.map) / map_gain)
        for row in rows
        if row.method not in (Method.OLD_OLD, Method.NEW_NEW)
    }


def cosine_mean(a_ND: NDArray[np.float32], b_ND: NDArray[np.float32]) -> float:
    """Mean over rows of the cosine between a and b; zero vectors count as 0.

    Raises:
        SettingsError: the shapes differ or are empty.

    Examples:
        >>> cosine_mean(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [1.0, 0.0]]))
        0.5
    """
    if a_ND.shape != b_ND.shape or a_ND.ndim != 2 or not len(a_ND):
        raise SettingsError(
            f"cosine of {a_ND.shape} and {b_ND.shape}; give two equal [rows, dimensions] shapes, rows > 0"
        )
    return float(np.einsum("nd,nd->n", normalized(a_ND), normalized(b_ND)).mean(dtype=np.float64))


def normalized(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their Euclidean length, float32 [N, D]; zero rows stay zero."""
    float_ND: NDArray[np.float32] = np.asarray(embeddings_ND, dtype=np.float32)
    lengths_N = np.linalg.norm(float_ND, axis=1, keepdims=True)
    lengths_N[lengths_N == 0] = 1
    unit_ND: NDArray[np.float32] = float_ND / lengths_N
    return unit_ND
