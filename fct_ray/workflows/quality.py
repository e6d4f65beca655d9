"""Retrieval quality of every way to search a gallery: what stays, what is fitted, what a full backfill gives.

Owns: reading the galleries, embedding the queries, and which ways are compared. What is measured of a way is in
evaluation/compatibility. Legend: Q queries, G gallery items, D dimensions of old, S of side-information, W of new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.evaluation import ways
from fct_ray.evaluation.compatibility import compatibility_rows, recovered_shares
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.judgements import CompatibilityRow, RecoveredShare
from fct_ray.kinds import Method, Metric, OnBadRow, QueryRole
from fct_ray.models.blocks import gallery_text
from fct_ray.models.query_map import takes_new_alone
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.plan.splits import sample_mask, unit_hash
from fct_ray.shards.model_directory import load_model
from fct_ray.shards.query_maps import query_map_at
from fct_ray.sources.registry import open_source
from fct_ray.storage.gallery_reader import Reading, read_record
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.labels import LabelArray, comparable_labels, joined_labels, labels_of_shard

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryVectors:
    """Rows of a version, ascending by id."""

    ids_G: IntArray
    embeddings_GD: FloatArray
    side_GS: FloatArray | None
    labels_G: LabelArray | None
    """Names where the shards have them (`label_name`, or a `label` of strings), else numbers; None without labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Galleries:
    """The versions that are compared: before, after the upgrade, and after a full backfill of the same items."""

    store: Store
    old: Manifest
    upgraded: Manifest
    backfill_store: Store
    backfill: Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryEncoders:
    """Where the encoders of the queries are; side only for fused search."""

    old_uri: str
    new_uri: str
    side_uri: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """The compatibility table and what each method recovered."""

    rows: tuple[CompatibilityRow, ...]
    recovered: Mapping[Method, RecoveredShare]
    queries: Mapping[QueryRole, FloatArray]
    """Embeddings of the queries by every model, [Q, ...] each."""
    query_labels_Q: LabelArray


def gallery_vectors(store: Store, manifest: Manifest, max_rows: int, seed: int) -> GalleryVectors:
    """About `max_rows` rows of a version (all, if it has no more): the same items for every version of one gallery."""
    share, side, parts = max_rows / manifest.num_rows, manifest.side_info, []
    for record in manifest.shards:
        columns = read_record(
            store,
            record,
            Reading.of(manifest),
            OnBadRow.REFUSE,
            dimension=manifest.dimension,
            side_dimension=None if side is None else side.dimension,
        ).columns
        mask = unit_hash(columns.ids_N, f"gallery:{seed}") < share
        of_shard = labels_of_shard(columns.table)
        parts.append(
            (
                columns.ids_N[mask],
                columns.embeddings_ND[mask],
                None if columns.side_info_NS is None else columns.side_info_NS[mask],
                None if of_shard is None else of_shard[mask],
            )
        )
    ids, embeddings, sides, labels = zip(*parts, strict=True)
    order, of_all = np.argsort(np.concatenate(ids), kind="stable"), joined_labels(labels)
    return GalleryVectors(
        ids_G=np.concatenate(ids)[order],
        embeddings_GD=np.concatenate(embeddings)[order],
        side_GS=None if any(part is None for part in sides) else np.concatenate(sides)[order],
        labels_G=None if of_all is None else of_all[order],
    )


def check_labels(store: Store, manifest: Manifest, query_source: str) -> None:
    """Refuse, before anything is embedded, a gallery or queries without labels to compare; one shard is read.

    Raises:
        SettingsError: see `comparable_labels`.
    """
    record, side, source = manifest.shards[0], manifest.side_info, open_source(query_source)
    columns = read_record(
        store,
        record,
        Reading.of(manifest),
        OnBadRow.REFUSE,
        dimension=manifest.dimension,
        side_dimension=None if side is None else side.dimension,
    ).columns
    positions = np.arange(source.num_items)
    comparable_labels(source, positions, source.labels_N, manifest.version, labels_of_shard(columns.table))


def measure_quality(
    galleries: Galleries,
    encoders: QueryEncoders,
    transformations: Mapping[Method, str],
    *,
    query_source: str,
    max_gallery: int,
    max_queries: int,
    seed: int,
    pool: PoolSettings,
    size: ClusterSize,
) -> Quality:
    """CMC top-1/top-5 and mAP of every way to search: what stays, what is fitted, what a full backfill gives.

    `transformations` are the fitted candidates by method, so that what was not published is in the table too; the
    published version is searched as it is stored.
    """
    old = gallery_vectors(galleries.store, galleries.old, max_gallery, seed)
    upgraded = gallery_vectors(galleries.store, galleries.upgraded, max_gallery, seed)
    full = gallery_vectors(galleries.backfill_store, galleries.backfill, max_gallery, seed)
    if not (np.array_equal(old.ids_G, upgraded.ids_G) and np.array_equal(old.ids_G, full.ids_G)):
        raise SettingsError("the compared versions hold different items; want the same gallery before and after")
    queries, labels_G = _embedded_queries(encoders, query_source, max_queries, galleries.old, old, pool=pool, size=size)
    rows = compatibility_rows(
        _ways(old, upgraded, full, queries, galleries, transformations),
        query_labels_Q=queries.labels_Q,
        gallery_labels_G=labels_G,
        query_ids_Q=queries.ids_Q,
        gallery_ids_G=old.ids_G,
    )
    return Quality(
        rows=rows, recovered=recovered_shares(rows), queries=queries.by_role, query_labels_Q=queries.labels_Q
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Queries:
    """Labelled queries, embedded by every encoder."""

    ids_Q: IntArray
    labels_Q: LabelArray
    by_role: Mapping[QueryRole, FloatArray]


def _embedded_queries(
    encoders: QueryEncoders,
    query_source: str,
    max_queries: int,
    version: Manifest,
    gallery: GalleryVectors,
    *,
    pool: PoolSettings,
    size: ClusterSize,
) -> tuple[_Queries, LabelArray]:
    """The queries, and the labels [G] of the gallery of the same kind as theirs."""
    source = open_source(query_source)
    positions = np.flatnonzero(_first(source.num_items, max_queries))
    uris = (encoders.old_uri, encoders.new_uri) + (() if encoders.side_uri is None else (encoders.side_uri,))
    encoded = encode_items(source, uris, positions, pool=pool, size=size, describe="embed the queries")
    labels_Q, labels_G = comparable_labels(source, positions, encoded.labels_N, version.version, gallery.labels_G)
    queries = _Queries(
        ids_Q=encoded.ids_N,
        labels_Q=labels_Q,
        by_role=dict(zip((QueryRole.OLD, QueryRole.NEW, QueryRole.SIDE), encoded.embeddings, strict=False)),
    )
    return queries, labels_G


def _ways(
    old: GalleryVectors,
    upgraded: GalleryVectors,
    full: GalleryVectors,
    queries: _Queries,
    galleries: Galleries,
    transformations: Mapping[Method, str],
) -> Iterator[WayToSearch]:
    """Every way to search, one at a time: the outputs of only one candidate are in memory."""
    old_metric, full_metric = galleries.old.metric, galleries.backfill.metric
    old_QD, new_QW = queries.by_role[QueryRole.OLD], queries.by_role[QueryRole.NEW]
    yield ways.doing_nothing(old_QD, old.embeddings_GD, old_metric)
    direct = ways.direct(new_QW, old.embeddings_GD, full_metric)
    if direct is not None:
        yield direct
    published = _published_method(galleries.upgraded, transformations)
    for method, uri in transformations.items():
        model, query_map = load_model(uri), query_map_at(uri)
        if not set(query_map.needs) <= queries.by_role.keys():
            continue
        runner = TransformRunner(model, batch_rows=4096)
        if method == published:
            vectors_GW = upgraded.embeddings_GD
        else:
            vectors_GW, _ = runner.run(old.embeddings_GD, old.side_GS)
        yield ways.mapped(
            method,
            "",
            query_map({role: queries.by_role[QueryRole(role)] for role in query_map.needs}),
            vectors_GW,
            full_metric if takes_new_alone(model.document) else Metric.IP,
            query=" + ".join(query_map.needs),
            gallery=gallery_text(model.transformation()),
            uses_side=runner.uses_side,
        )
    yield ways.full_backfill(new_QW, full.embeddings_GD, full_metric)


def _first(num_items: int, most: int) -> npt.NDArray[np.bool_]:
    return sample_mask(np.arange(num_items), min(num_items, most), 0)


def _published_method(upgraded: Manifest, transformations: Mapping[Method, str]) -> Method | None:
    wanted = None if upgraded.transformation is None else upgraded.transformation.fingerprint
    for method, uri in transformations.items():
        if load_model(uri).document.fingerprint == wanted:
            return method
    return None
