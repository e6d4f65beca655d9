"""The kinds of evidence that an upgrade has, and fetching what they need.

    --queries FILE                         --> QUERIES
    --views, --old-encoder                 --> PSEUDO (`pseudo_queries`)
    labels in the store, on enough items   --> LABELS
    --source, or embeddings brought later  --> POOLED
    pairs alone                            --> HELD_OUT, and a list of items whose embeddings would make it POOLED

Owns: each kind but PSEUDO, and the new embeddings of what ways return. Which one decides is `evidence_by_task`. Legend: Q
queries, G gallery items, P pooled items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation import ways
from fct_ray.evaluation.held_out import HeldOutItems, HeldOutMeasures
from fct_ray.evaluation.queries import JudgedQueries, query_measures
from fct_ray.judgements import CompatibilityRow, GateCheck
from fct_ray.kinds import Precision, QueryRole
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.checks import MIN_GATE_PAIRS, uncovered_share
from fct_ray.plan.splits import sample_mask
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.sources.registry import open_source
from fct_ray.storage import pairs as pair_files
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.item_positions import positions_of
from fct_ray.workflows.keys import ids_of, not_in_store, user_ids
from fct_ray.workflows.upgrade.candidates import Candidate
from fct_ray.workflows.upgrade.evidence import (
    Evidence,
    FloatArray,
    FromHeldOut,
    FromLabels,
    FromPool,
    FromQueries,
    IntArray,
    NotJudgedError,
    as_gallery,
    item_queries,
)
from fct_ray.workflows.upgrade.gate import Metrics, Work, compared, searches
from fct_ray.workflows.upgrade.pair_origin import PairsFromEncoder
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.stored_sample import StoredRows, gallery_sample

MAX_HELD_OUT = 4000  # scores are held_out x held_out: more would sharpen the bounds little and cost quadratically
MAX_ANCHORS = 200  # whose results the new model judges: each way adds up to k items for each of them
WANTED_IDS, WANTED_EMBEDDINGS = "wanted_ids.parquet", "wanted_embeddings.parquet"


@dataclass(frozen=True, kw_only=True)
class EvidenceSources:
    """What an upgrade can be judged by."""

    plan: UpgradePlan
    pairs: Pairs
    held_out: Pairs
    refined: Pairs | None
    size: ClusterSize
    meter: StageMeter

    @property
    def wanted_embeddings_uri(self) -> str:
        """Where new embeddings of wanted items are looked for, (id, embedding)."""
        return self.plan.store.run_uri(self.plan.run, WANTED_EMBEDDINGS)

    def gallery(self) -> StoredRows:
        """The gallery that is searched, or a sample of it with every relevant item of the queries.

        Raises:
            DataError: the gallery does not have all of them.
        """
        plan = self.plan
        relevant = np.unique(np.empty(0, np.int64) if plan.queries is None else plan.queries.judged.relevant_ids_R)
        gallery = gallery_sample(
            plan.store,
            plan.parent,
            plan.settings.gate.gallery_rows,
            relevant,
            seed=plan.settings.seed + 1,  # another sample than that of the pairs
            use_side=plan.use_side,
            meter=self.meter,
        )
        missing = np.setdiff1d(relevant, gallery.ids_G)
        if len(missing) and plan.queries is not None:
            raise DataError(not_in_store(missing, len(relevant), plan.queries.uri))
        return gallery

    def judging(self) -> IntArray:
        """The positions of the real queries that look for nothing that was fitted on."""
        assert self.plan.queries is not None  # noqa: S101 (asked before)
        fitted = np.setdiff1d(self.pairs.ids_P, self.held_out.ids_P)
        judged = self.plan.queries.judged
        return np.setdiff1d(np.arange(len(judged)), _with_relevant_in(judged, fitted))

    def fitted_ids(self) -> IntArray:
        """Ids of items that maps are fitted on, ascending: pairs that are not held out, and refined items."""
        fitted = np.setdiff1d(self.pairs.ids_P, self.held_out.ids_P)
        return fitted if self.refined is None else np.union1d(fitted, self.refined.ids_P)

    def items(self, most: int) -> Pairs:
        """At most so many held-out pairs, chosen by a hash of their ids."""
        count = min(most, len(self.held_out.ids_P))
        return self.held_out.rows(sample_mask(self.held_out.ids_P, count, 0))

    def known_new_of(self, ids_P: IntArray) -> FloatArray:
        """The new model's embeddings of these ids, if they are known.

        Raises:
            NotJudgedError: they are not.
        """
        return self._new_of(ids_P, may_embed=False)

    def new_of(self, ids_P: IntArray) -> FloatArray:
        """The new model's embeddings of these ids: known ones, else embedded now, where there are raw items.

        Raises:
            NotJudgedError: there are none, and nobody has brought the embeddings.
        """
        return self._new_of(ids_P, may_embed=isinstance(self.plan.pairs, PairsFromEncoder))

    def _new_of(self, ids_P: IntArray, *, may_embed: bool) -> FloatArray:
        known_ids, known_NW = self._known()
        missing = np.setdiff1d(ids_P, known_ids)
        if len(missing) and not may_embed:
            raise NotJudgedError(missing)
        if len(missing):
            known_ids, known_NW = self._with_embedded(missing, known_ids, known_NW)
        order = np.argsort(known_ids, kind="stable")
        return known_NW[order[np.searchsorted(known_ids, ids_P, sorter=order)]]

    def known_by_both(self, gallery: StoredRows) -> tuple[IntArray, FloatArray, FloatArray]:
        """Ids, old and new embeddings of the pairs, and of what was brought for this command and is in `gallery`."""
        ids, new_NW = self._known()
        more = ~np.isin(ids, self.pairs.ids_P) & np.isin(ids, gallery.ids_G)
        order_G = np.argsort(gallery.ids_G, kind="stable")
        rows = order_G[np.searchsorted(gallery.ids_G, ids[more], sorter=order_G)]
        return (
            np.concatenate([self.pairs.ids_P, ids[more]]),
            np.concatenate([self.pairs.old_PD, gallery.old_GD[rows]]),
            np.concatenate([self.pairs.new_PW, new_NW[more]]),
        )

    def write_wanted(self, ids: IntArray) -> str:
        """Write which items' embeddings would make the judgement stronger; returns where."""
        uri = self.plan.store.run_uri(self.plan.run, WANTED_IDS)
        pair_files.write_table(uri, pa.table({"id": user_ids(self.plan.store, self.plan.parent, ids)}))
        return uri

    def compatibility(self, best: tuple[Candidate, ...], metrics: Metrics, work: Work) -> tuple[CompatibilityRow, ...]:
        """The compatibility table on held-out pairs, each of which queries all the others; empty without labels."""
        evidence = held_out_evidence(self, for_labels=True)
        if evidence.measure.labels_Q is None:
            return ()
        old, new = evidence.queries[QueryRole.OLD], evidence.queries[QueryRole.NEW]
        references = [
            ways.doing_nothing(old, old, metrics.old),
            ways.direct(new, old, metrics.new),
            *searches(
                best,
                evidence,
                metrics,
                batch_rows=self.plan.settings.batch_rows,
                precision=Precision.FLOAT32,
                work=work,
            ),
            ways.full_backfill(new, new, metrics.new),
        ]
        evidence.measures([way for way in references if way is not None])
        return tuple(evidence.measure.rows)

    def _known(self) -> tuple[IntArray, FloatArray]:
        """New embeddings of the pairs, and those brought for this command, also where it asked for another task then."""
        known = self.pairs.with_more(self.refined)
        ids, new_NW = known.ids_P, known.new_PW
        for uri in wanted_embeddings(self.plan):
            brought = pair_files.read_pairs(uri)
            seen, wanted = brought.embeddings_NW.shape[1], new_NW.shape[1]
            if seen != wanted:
                raise SettingsError(
                    f"{uri}: embeddings have dimension {seen}; want {wanted}, as the pairs have: embed these items with the "
                    "model of the pairs, or remove the file"
                )
            brought_N = ids_of(self.plan.store, self.plan.parent, brought.ids, uri)
            only = ~np.isin(brought_N, ids)
            ids = np.concatenate([ids, brought_N[only]])
            new_NW = np.concatenate([new_NW, brought.embeddings_NW[only]])
        return ids, new_NW

    def _with_embedded(
        self, missing: IntArray, known_ids: IntArray, known_NW: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """The known ones and the missing, embedded by the new encoder and kept for the next attempt."""
        origin = self.plan.pairs
        assert isinstance(origin, PairsFromEncoder)  # noqa: S101 (asked before)
        source = open_source(origin.source)
        encoded = encode_items(
            source,
            (origin.encoder,),
            positions_of(self.plan.store, self.plan.parent, missing, source),
            pool=self.plan.settings.pool,
            size=self.size,
            describe="gate: embed what was returned",
        )
        self.meter.add(encoded.usage)
        ids = np.concatenate([known_ids, missing])
        new_NW = np.concatenate([known_NW, encoded.embeddings[0]])
        columns = {"id": user_ids(self.plan.store, self.plan.parent, ids), "embedding": vectors_column(new_NW)}
        pair_files.write_table(self.wanted_embeddings_uri, pa.table(columns))
        return ids, new_NW


def wanted_embeddings(plan: UpgradePlan) -> list[str]:
    """The files of wanted embeddings that have been brought, for this run or for the same upgrade with another task."""
    return plan.found_in_runs(WANTED_EMBEDDINGS)


def from_queries(sources: EvidenceSources, gallery: StoredRows) -> FromQueries:
    """The real queries that look for nothing that was fitted on."""
    plan, chosen = sources.plan, sources.judging()
    assert plan.queries is not None  # noqa: S101 (asked before)
    judged = plan.queries.judged.take(chosen)
    return FromQueries(
        judged=judged,
        queries={role: array[chosen] for role, array in plan.queries.vectors.items()},
        gallery=gallery,
        k=plan.settings.gate.k,
        groups_Q=judged.groups_Q,
    )


def from_labels(sources: EvidenceSources, gallery: StoredRows) -> FromLabels | None:
    """Held-out items with labels; None where labels cannot tell ways apart."""
    items = sources.items(sources.plan.settings.gate.num_queries)
    if not labels_tell_apart(items, gallery):
        return None
    return FromLabels(items=items, queries=item_queries(items), gallery=gallery, groups_Q=items.labels_P)


def from_pool(sources: EvidenceSources, gallery: StoredRows, *, may_embed: bool = True) -> FromPool:
    """Held-out items, whose results the new model judges; it may turn out to lack embeddings."""
    plan, gate = sources.plan, sources.plan.settings.gate
    items = sources.items(min(MAX_ANCHORS, gate.num_queries))
    return FromPool(
        items=items,
        queries=item_queries(items),
        gallery=gallery,
        k=gate.k,
        metric=plan.space.metric,
        new_of=sources.new_of if may_embed else sources.known_new_of,
        held_out=held_out_evidence(sources),
        groups_Q=items.labels_P,
    )


def labels_tell_apart(items: Pairs, gallery: StoredRows) -> bool:
    """Whether enough items have another one of their label in the gallery to find, and there is more than one label."""
    if items.labels_P is None or gallery.labels_G is None:
        return False
    labels, counts = np.unique(gallery.labels_G, return_counts=True)
    at_P = np.minimum(np.searchsorted(labels, items.labels_P), len(labels) - 1)
    others_P = np.where(labels[at_P] == items.labels_P, counts[at_P], 0) - np.isin(items.ids_P, gallery.ids_G)
    return len(labels) > 1 and int((others_P > 0).sum()) >= MIN_GATE_PAIRS


def held_out_evidence(sources: EvidenceSources, *, for_labels: bool = False) -> FromHeldOut:
    """The held-out pairs alone."""
    plan, items = sources.plan, sources.items(MAX_HELD_OUT)
    ceiling = ways.full_backfill(items.new_PW, items.new_PW, plan.space.metric)
    measure = HeldOutMeasures(
        HeldOutItems(ids_Q=items.ids_P, labels_Q=items.labels_P),
        ceiling=ceiling,
        k=min(plan.settings.gate.k, len(items.ids_P) - 1) if for_labels else plan.settings.gate.k,
        min_labelled=MIN_GATE_PAIRS,
    )
    return FromHeldOut(measure=measure, queries=item_queries(items), gallery=as_gallery(items), groups_Q=items.labels_P)


def new_against_old(sources: EvidenceSources, evidence: Evidence, metrics: Metrics, *, seed: int) -> GateCheck | None:
    """Whether the new model itself is better, on items whose embeddings by both are known; None where nothing shows it."""
    plan = sources.plan
    if isinstance(evidence, FromQueries):
        asked = (evidence.judged, evidence.queries)
        if plan.queries is not None:  # also those that look for what was fitted on: here nothing fitted is judged
            asked = (plan.queries.judged, plan.queries.vectors)
        ids_K, old_KD, new_KW = sources.known_by_both(evidence.gallery)
        known = _with_relevant_in(asked[0], ids_K)
        if len(known) < MIN_GATE_PAIRS or QueryRole.NEW not in asked[1]:
            return None
        judged = asked[0].take(known)
        old_QD, new_QW = (asked[1][role][known] for role in (QueryRole.OLD, QueryRole.NEW))
        k = min(plan.settings.gate.k, len(ids_K))
        of_old = query_measures(ways.doing_nothing(old_QD, old_KD, metrics.old), ids_K, judged, k=k)
        of_new = query_measures(ways.full_backfill(new_QW, new_KW, metrics.new), ids_K, judged, k=k)
        return compared({"mrr": of_new["mrr"]}, of_old, seed=seed)[0]
    held_out = held_out_evidence(sources, for_labels=True)
    if held_out.measure.labels_Q is None:
        return None
    old, new = held_out.queries[QueryRole.OLD], held_out.queries[QueryRole.NEW]
    map_of_old = held_out.measure(ways.doing_nothing(old, old, metrics.old))["map"]
    map_of_new = held_out.measure(ways.full_backfill(new, new, metrics.new))["map"]
    return compared({"map": map_of_new}, {"map": map_of_old}, seed=seed)[0]


def looked_for(evidence: FromQueries, most: int) -> IntArray:
    """Ids of what at most so many of the queries look for, ascending: the first relevant item of each."""
    judged = evidence.judged
    chosen = np.unique(np.linspace(0, len(judged) - 1, min(most, len(judged))).astype(np.int64))
    return np.unique(judged.relevant_ids_R[judged.relevant_offsets_Q1[chosen]])


def _with_relevant_in(judged: JudgedQueries, ids_P: IntArray) -> IntArray:
    """The positions of queries of which something relevant is among these ids."""
    found_R = np.isin(judged.relevant_ids_R, ids_P)
    counts_Q = np.add.reduceat(found_R, judged.relevant_offsets_Q1[:-1])
    return np.flatnonzero(counts_Q)


def share_without_pairs(plan: UpgradePlan, pairs: Pairs) -> float:
    """Share of the gallery in shards without a pair."""
    records = plan.parent.shards
    covered = [int(((pairs.ids_P >= r.id_min) & (pairs.ids_P <= r.id_max)).sum()) for r in records]
    return uncovered_share(covered, [r.rows for r in records])
