"""What the compatibility table adds up to: the recovered share of each method, and the mean cosine of two spaces.

recovered share = (method - old/old) / (new/new - old/old): 0 is doing nothing, 1 is the full backfill, below 0 is
harm. Knows no embeddings of its own and no store. Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import SettingsError
from fct_ray.evaluation.fused import normalized
from fct_ray.values import CompatibilityRow, Metric, RecoveredShare, RetrievalQuality

OLD_OLD = "old_old"
NEW_NEW = "new_new"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WayToSearch:
    """One line of the compatibility table before it is measured: whose queries search which gallery."""

    method: str
    query: str
    """Whose queries, in words: "new"."""
    gallery: str
    """Which gallery, in words: "h(old, side)"."""
    query_QD: NDArray[np.float32]
    gallery_GD: NDArray[np.float32]
    metric: Metric
    side_information: bool = False

    def row(self, quality: RetrievalQuality) -> CompatibilityRow:
        """The line, measured."""
        return CompatibilityRow(
            method=self.method,
            query=self.query,
            gallery=self.gallery,
            side_information=self.side_information,
            top1=quality.top1,
            top5=quality.top5,
            map=quality.map,
        )


def recovered_shares(rows: Sequence[CompatibilityRow]) -> dict[str, RecoveredShare]:
    """Recovered share of top-1 and mAP of every method but `old_old` and `new_new`, keyed by method, in row order.

    Where new/new equals old/old in top-1 or in mAP there is nothing to recover and the share does not exist:
    the result is empty and the log says so.

    Raises:
        SettingsError: `old_old` or `new_new` is missing, or a method occurs twice.
    """
    by_method = {row.method: row for row in rows}
    if len(by_method) != len(rows):
        raise SettingsError(f"methods {[row.method for row in rows]} repeat; give one row per method")
    missing = [method for method in (OLD_OLD, NEW_NEW) if method not in by_method]
    if missing:
        raise SettingsError(
            f"rows {sorted(by_method)} lack {missing}; measure them: recovered shares are relative to them"
        )
    old, new = by_method[OLD_OLD], by_method[NEW_NEW]
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
        if row.method not in (OLD_OLD, NEW_NEW)
    }


def cosine_mean(a_ND: NDArray[np.float32], b_ND: NDArray[np.float32]) -> float:
    """Mean over rows of the cosine between a and b; zero vectors count as 0.

    Raises:
        SettingsError: the shapes differ or are empty.
    """
    if a_ND.shape != b_ND.shape or a_ND.ndim != 2 or not len(a_ND):
        raise SettingsError(
            f"cosine of {a_ND.shape} and {b_ND.shape}; give two equal [rows, dimensions] shapes, rows > 0"
        )
    return float(np.einsum("nd,nd->n", normalized(a_ND), normalized(b_ND)).mean(dtype=np.float64))
