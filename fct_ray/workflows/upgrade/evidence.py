"""What ways to search are judged by, as values with one interface: queries, a gallery, and measures of a way.

    QUERIES    the user's file of real queries      over the gallery
    PSEUDO     other views of items                 over the gallery
    LABELS     held-out items that have labels      over the gallery
    POOLED     held-out items                       over the gallery; the new model judges what is returned
    HELD_OUT   held-out items                       among themselves: provisional

Owns: those values. The measures themselves are in evaluation/; what they decide is plan/verdict's. Legend: Q queries, G
gallery items, K results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fct_ray.evaluation.agreement import NO_NEIGHBOUR
from fct_ray.evaluation.held_out import HeldOutMeasures
from fct_ray.evaluation.label_evidence import label_measures
from fct_ray.evaluation.pooled import pool_ids, pooled_measures, top_lists
from fct_ray.evaluation.queries import JudgedQueries, query_measures
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.kinds import EvidenceKind, Method, Metric, QueryRole
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.stored_sample import StoredRows

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
MAX_ROWS_TO_CHOOSE_BY = 5_000
"""Gallery rows that weights are chosen by: every variant of every way runs over them."""
Key = tuple[Method, str]
Measures = Mapping[str, npt.NDArray[np.float64]]
QueryVectors = Mapping[QueryRole, FloatArray]


class Evidence(Protocol):
    """One kind of evidence with its queries and the gallery that they search."""

    kind: EvidenceKind
    queries: QueryVectors
    gallery: StoredRows
    groups_Q: IntArray | None
    """Labels or groups of the queries, to name the one that is served worst."""

    def measures(self, ways: Iterable[WayToSearch]) -> Mapping[Key, Measures]:
        """Every measure of every way, one way in memory at a time.

        Raises:
            NotJudgedError: something is missing that only the user or the new encoder can give.
        """

    def few(self, count: int) -> Evidence:
        """The same with at most so many queries in a part of the gallery, to choose weights by."""


class NotJudgedError(Exception):
    """The new model's embeddings of these items are needed, and they are not here."""

    def __init__(self, wanted_ids: IntArray) -> None:
        super().__init__(f"{len(wanted_ids):,} embeddings of the new model are needed")
        self.wanted_ids = wanted_ids


@dataclass(kw_only=True, slots=True)
class FromQueries:
    """Real queries, or other views of items, over the gallery."""

    judged: JudgedQueries
    queries: QueryVectors
    gallery: StoredRows
    k: int
    groups_Q: IntArray | None = None
    kind: EvidenceKind = EvidenceKind.QUERIES

    def measures(self, ways: Iterable[WayToSearch]) -> Mapping[Key, Measures]:
        """MRR, recall and nDCG of every way."""
        return {way.key: query_measures(way, self.gallery.ids_G, self.judged, k=self.k) for way in ways}

    def few(self, count: int) -> FromQueries:
        """A share of the queries, spread over all, in a part of the gallery that holds what they look for."""
        chosen = _spread(len(self.judged), count)
        judged = self.judged.take(chosen)
        gallery = _part(self.gallery, judged.relevant_ids_R)
        return replace(self, judged=judged, queries=_rows(self.queries, chosen), gallery=gallery, groups_Q=None)


@dataclass(kw_only=True, slots=True)
class FromLabels:
    """Held-out items look for items of their label."""

    items: Pairs
    queries: QueryVectors
    gallery: StoredRows
    groups_Q: IntArray | None = None
    kind: EvidenceKind = EvidenceKind.LABELS

    def measures(self, ways: Iterable[WayToSearch]) -> Mapping[Key, Measures]:
        """Average precision and top-1 of every way."""
        labels_Q, labels_G = self.items.labels_P, self.gallery.labels_G
        assert labels_Q is not None and labels_G is not None  # noqa: S101 PT018 (chosen only where both have labels)
        return {
            way.key: label_measures(
                way, labels_Q, labels_G, own_ids_Q=self.items.ids_P, gallery_ids_G=self.gallery.ids_G
            )
            for way in ways
        }

    def few(self, count: int) -> FromLabels:
        """A share of the items, spread over all, in a part of the gallery."""
        chosen = _spread(len(self.items.ids_P), count)
        items = self.items.rows(np.isin(np.arange(len(self.items.ids_P)), chosen))
        gallery = _part(self.gallery, items.ids_P)
        return replace(self, items=items, queries=item_queries(items), gallery=gallery, groups_Q=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooled:
    """What the ways that were compared returned, and the new model's embeddings of that."""

    lists: Mapping[Key, IntArray]
    ids_P: IntArray
    new_PW: FloatArray


@dataclass(kw_only=True, slots=True)
class FromPool:
    """Held-out items search the gallery; what any way returns is judged by the new model."""

    items: Pairs
    queries: QueryVectors
    gallery: StoredRows
    k: int
    metric: Metric
    new_of: Callable[[IntArray], FloatArray]
    """The new model's embeddings of these ids; raises NotJudgedError."""
    held_out: FromHeldOut
    """Weights are chosen by held-out pairs: every way that is judged costs embeddings."""
    groups_Q: IntArray | None = None
    kind: EvidenceKind = EvidenceKind.POOLED
    pooled: Pooled | None = field(default=None, init=False)

    def measures(self, ways: Iterable[WayToSearch]) -> Mapping[Key, Measures]:
        """Recall of the pool's best, and mean similarity of what is returned, of every way.

        The ways of the first call make the pool. Those of later calls are held against it, and what they return beside
        it counts as not found: nothing more has to be embedded for them, and nobody is the best of a pool of its own.
        """
        lists = {way.key: top_lists(way, self.gallery.ids_G, self.items.ids_P, self.k) for way in ways}
        if self.pooled is None:
            ids_P = pool_ids(lists.values())
            self.pooled = Pooled(lists=lists, ids_P=ids_P, new_PW=self.new_of(ids_P))
        pool = self.pooled
        every = {(True, key): found_QK for key, found_QK in pool.lists.items()} | {
            (False, key): np.where(np.isin(found_QK, pool.ids_P), found_QK, NO_NEIGHBOUR)
            for key, found_QK in lists.items()
        }
        found = pooled_measures(every, self.items.new_PW, pool.ids_P, pool.new_PW, metric=self.metric, k=self.k)
        return {key: found[False, key] for key in lists}

    def few(self, count: int) -> FromHeldOut:
        """Held-out pairs, as they are."""
        return self.held_out.few(count)


@dataclass(kw_only=True, slots=True)
class FromHeldOut:
    """Held-out items search each other."""

    measure: HeldOutMeasures
    queries: QueryVectors
    gallery: StoredRows
    groups_Q: IntArray | None = None
    kind: EvidenceKind = EvidenceKind.HELD_OUT

    def measures(self, ways: Iterable[WayToSearch]) -> Mapping[Key, Measures]:
        """Agreement with the new model and, with labels, average precision of every way."""
        return {way.key: self.measure(way) for way in ways}

    def few(self, count: int) -> FromHeldOut:  # noqa: ARG002 (they are their own gallery)
        """All of them."""
        return self


def _spread(total: int, count: int) -> IntArray:
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _part(gallery: StoredRows, also: IntArray) -> StoredRows:
    """At most `MAX_ROWS_TO_CHOOSE_BY` rows, spread over all, and those with the ids `also`."""
    rows_G = np.isin(np.arange(len(gallery.ids_G)), _spread(len(gallery.ids_G), MAX_ROWS_TO_CHOOSE_BY))
    rows_G |= np.isin(gallery.ids_G, also)
    return StoredRows(
        ids_G=gallery.ids_G[rows_G],
        old_GD=gallery.old_GD[rows_G],
        side_GS=None if gallery.side_GS is None else gallery.side_GS[rows_G],
        labels_G=None if gallery.labels_G is None else gallery.labels_G[rows_G],
    )


def _rows(queries: QueryVectors, chosen: IntArray) -> QueryVectors:
    return {role: array[chosen] for role, array in queries.items()}


def item_queries(items: Pairs) -> QueryVectors:
    """Items as queries: their stored vectors and the new model's."""
    vectors = {QueryRole.OLD: items.old_PD, QueryRole.NEW: items.new_PW}
    return vectors if items.side_PS is None else {**vectors, QueryRole.SIDE: items.side_PS}


def as_gallery(items: Pairs) -> StoredRows:
    """Items as a gallery of their own."""
    return StoredRows(ids_G=items.ids_P, old_GD=items.old_PD, side_GS=items.side_PS, labels_G=items.labels_P)
