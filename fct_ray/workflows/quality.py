"""Retrieval quality of every way to search a gallery: what stays, what is fitted, what a full backfill gives.

Owns: which galleries and queries are compared. The measures are evaluation's. Legend: Q queries, G gallery items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.evaluation import fused, retrieval
from fct_ray.evaluation.compatibility import WayToSearch, recovered_shares
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.plan.splits import sample_mask, unit_hash
from fct_ray.shards.model_directory import load_model
from fct_ray.sources.registry import open_source
from fct_ray.storage import objects, shards
from fct_ray.storage.store import Store
from fct_ray.values import CompatibilityRow, Manifest, Metric, RecoveredShare
from fct_ray.workflows.embed_items import encode_items

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryVectors:
    """Rows of a version, ascending by id."""

    ids_G: IntArray
    embeddings_GD: FloatArray
    side_GS: FloatArray | None
    labels_G: IntArray


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
    recovered: Mapping[str, RecoveredShare]
    new_queries_QW: FloatArray
    query_labels_Q: IntArray


def gallery_vectors(store: Store, manifest: Manifest, max_rows: int, seed: int) -> GalleryVectors:
    """About `max_rows` rows of a version (all, if it has no more): the same items for every version of one gallery.

    Raises:
        SettingsError: the shards have no `label` column, without which retrieval quality has no meaning.
    """
    share, side, parts = max_rows / manifest.num_rows, manifest.side_info, []
    for record in manifest.shards:
        uri = store.uri_of(record.embeddings.path)
        columns = shards.parse_shard(
            objects.read_bytes(uri),
            uri,
            dimension=manifest.dimension,
            side_dimension=None if side is None else side.dimension,
        )
        if "label" not in columns.table.column_names:
            raise SettingsError(
                f"{uri}: has no `label` column; want labels to measure retrieval: embed a labelled source"
            )
        mask = unit_hash(columns.ids_N, f"gallery:{seed}") < share
        labels = columns.table["label"].to_numpy()
        parts.append(
            (
                columns.ids_N[mask],
                columns.embeddings_ND[mask],
                None if columns.side_info_NS is None else columns.side_info_NS[mask],
                labels[mask],
            )
        )
    ids, embeddings, sides, labels = zip(*parts, strict=True)
    order = np.argsort(np.concatenate(ids), kind="stable")
    return GalleryVectors(
        ids_G=np.concatenate(ids)[order],
        embeddings_GD=np.concatenate(embeddings)[order],
        side_GS=None if any(part is None for part in sides) else np.concatenate(sides)[order],
        labels_G=np.concatenate(labels)[order].astype(np.int64),
    )


def measure_quality(
    galleries: Galleries,
    encoders: QueryEncoders,
    transformations: Mapping[str, str],
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
    positions = np.flatnonzero(_first(open_source(query_source).num_items, max_queries))

    uris = (encoders.old_uri, encoders.new_uri) + (() if encoders.side_uri is None else (encoders.side_uri,))
    queries = encode_items(query_source, uris, positions, pool=pool, size=size, describe="embed the queries")
    if queries.labels_N is None:
        raise SettingsError(f"{query_source}: has no labels; want labelled queries to measure retrieval")
    old_QD, new_QW = queries.embeddings[:2]
    old_metric, new_metric = galleries.old.metric, galleries.upgraded.metric
    table = _Table(queries.ids_N, queries.labels_N, old.ids_G, old.labels_G)
    table.add("old_old", "old", "old", old_QD, old.embeddings_GD, old_metric)
    if old.embeddings_GD.shape[1] == new_QW.shape[1]:
        table.add("direct", "new", "old", new_QW, old.embeddings_GD, new_metric)
    published = _published_method(galleries.upgraded, transformations)
    for method, uri in transformations.items():
        runner = TransformRunner(load_model(uri), batch_rows=4096)
        if method == published:
            vectors_GW = upgraded.embeddings_GD
        else:
            vectors_GW, _ = runner.run(old.embeddings_GD, old.side_GS)
        gallery = "h(old, side)" if runner.uses_side else "h(old)"
        table.add(method, "new", gallery, new_QW, vectors_GW, new_metric, side=runner.uses_side)
    if old.side_GS is not None and encoders.side_uri is not None:
        both_QD = fused.fuse(old_QD, queries.embeddings[2])
        both_GD = fused.fuse(old.embeddings_GD, old.side_GS)
        table.add("fused", "old + side", "old + side", both_QD, both_GD, Metric.IP, side=True)
    table.add("new_new", "new", "new", new_QW, full.embeddings_GD, new_metric)
    return Quality(
        rows=tuple(table.rows),
        recovered=recovered_shares(table.rows),
        new_queries_QW=new_QW,
        query_labels_Q=queries.labels_N,
    )


class _Table:
    """Compatibility rows over one set of labelled queries and gallery items."""

    def __init__(self, query_ids_Q: IntArray, query_labels_Q: IntArray, ids_G: IntArray, labels_G: IntArray) -> None:
        self.query_ids_Q, self.query_labels_Q = query_ids_Q, query_labels_Q
        self.ids_G, self.labels_G = ids_G, labels_G
        self.rows: list[CompatibilityRow] = []

    def add(
        self,
        method: str,
        query: str,
        gallery: str,
        query_QD: FloatArray,
        gallery_GD: FloatArray,
        metric: Metric,
        *,
        side: bool = False,
    ) -> None:
        """Measure one line."""
        way = WayToSearch(
            method=method,
            query=query,
            gallery=gallery,
            query_QD=query_QD,
            gallery_GD=gallery_GD,
            metric=metric,
            side_information=side,
        )
        quality = retrieval.retrieval_quality(
            way.query_QD,
            way.gallery_GD,
            self.query_labels_Q,
            self.labels_G,
            metric=way.metric,
            query_ids_Q=self.query_ids_Q,
            gallery_ids_G=self.ids_G,
        )
        self.rows.append(way.row(quality))


def _first(num_items: int, most: int) -> npt.NDArray[np.bool_]:
    return sample_mask(np.arange(num_items), min(num_items, most), 0)


def _published_method(upgraded: Manifest, transformations: Mapping[str, str]) -> str | None:
    wanted = None if upgraded.transformation is None else upgraded.transformation.fingerprint
    for method, uri in transformations.items():
        if load_model(uri).document.fingerprint == wanted:
            return method
    return None
