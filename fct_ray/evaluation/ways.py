"""Ways to search a gallery, as values: whose queries, which gallery, which metric.

    doing nothing   old queries  on old embeddings        (the bar)
    direct          new queries  on old embeddings        (where both have the same dimension)
    mapped          queries by one or several models on what a transformation made of the stored vectors
    full backfill   new queries  on true new embeddings   (the ceiling)

Owns: what each way is called and searches. A kind of evidence (`held_out`, `compatibility`) is a function over ways, so
that a new way is measured by every kind, and a new kind measures every way. Knows no model: h has been run already.
Shapes: Q queries, G gallery items, D dimensions of old, S of side-information, W of new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fct_ray.judgements import CompatibilityRow, RetrievalQuality
from fct_ray.kinds import Method, Metric

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class WayToSearch:
    """Whose queries search which gallery, and how they are compared; one line of the compatibility table."""

    method: Method
    query: str
    """Whose queries, in words: "new"."""
    gallery: str
    """Which gallery, in words: "h(old, side)"."""
    query_QD: FloatArray
    gallery_GD: FloatArray
    metric: Metric
    side_information: bool = False
    """Whether side-information is used."""
    variant: str = ""
    """Which of several ways of this method, e.g. with which weights."""

    @property
    def key(self) -> tuple[Method, str]:
        """What tells it from all others."""
        return self.method, self.variant

    def row(self, quality: RetrievalQuality) -> CompatibilityRow:
        """The line of the table, with these measures."""
        return CompatibilityRow(
            method=self.method,
            query=self.query,
            gallery=self.gallery,
            side_information=self.side_information,
            top1=quality.top1,
            top5=quality.top5,
            map=quality.map,
        )


def doing_nothing(old_QD: FloatArray, old_GD: FloatArray, metric: Metric) -> WayToSearch:
    """Old queries on old embeddings, float32 [Q, D] and [G, D]: what any upgrade is held against."""
    return WayToSearch(
        method=Method.OLD_OLD, query="old", gallery="old", query_QD=old_QD, gallery_GD=old_GD, metric=metric
    )


def full_backfill(new_QW: FloatArray, new_GW: FloatArray, metric: Metric) -> WayToSearch:
    """New queries on true new embeddings, float32 [Q, W] and [G, W]: all that could be gained."""
    return WayToSearch(
        method=Method.NEW_NEW, query="new", gallery="new", query_QD=new_QW, gallery_GD=new_GW, metric=metric
    )


def direct(new_QW: FloatArray, old_GD: FloatArray, metric: Metric) -> WayToSearch | None:
    """New queries on old embeddings as they are, float32 [Q, W] and [G, D]; None where W is not D."""
    if new_QW.shape[1] != old_GD.shape[1]:
        return None
    return WayToSearch(
        method=Method.DIRECT, query="new", gallery="old", query_QD=new_QW, gallery_GD=old_GD, metric=metric
    )


def mapped(
    method: Method,
    variant: str,
    query_QW: FloatArray,
    output_GW: FloatArray,
    metric: Metric,
    *,
    query: str,
    gallery: str,
    uses_side: bool,
) -> WayToSearch:
    """Queries on the outputs of a model, both in the space where they are compared: float32 [Q, W] and [G, W]."""
    return WayToSearch(
        method=method,
        variant=variant,
        query=query,
        gallery=gallery,
        query_QD=query_QW,
        gallery_GD=output_GW,
        metric=metric,
        side_information=uses_side,
    )
