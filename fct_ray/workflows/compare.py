"""The comparison job: one gallery, an upgrade and a full backfill of it, both done in this run by the same meters.

    <work>/upgrade     a scratch store that adopts the old version's shards in place, upgraded
    <work>/backfill    a scratch store, embedded anew from raw items with the new encoder

Owns: that job's settings and order, and the half of it that the quick start shares: a full backfill beside an upgrade. The
compared store itself is only read.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import GateRefusedError, SettingsError
from fct_ray.plan.savings import SavedWork, work_saved
from fct_ray.settings import Count
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ObjectRef, ShardRecord
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.commit import Committed
from fct_ray.workflows.quality import Galleries, Quality, QueryEncoders, measure_quality
from fct_ray.workflows.savings import side_information_work
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(UpgradeSettings):
    """Measure what an upgrade saves against a full backfill of the same gallery, and what both are worth."""

    queries: str
    """Labelled queries, e.g. "fashion-mnist:query"; the store's shards must carry a `label` column."""
    old_encoder: str
    """The encoder that embeds the old queries: a model directory or `package.module:factory`."""
    side_encoder: str | None = None
    """The side-information model, likewise, to measure fused search and to count what it took."""
    work_dir: str | None = None
    """Where the two scratch stores go. None: `compare/` in the store's runs."""
    version: Count | None = None
    """The old version. None: CURRENT, or its parent where CURRENT is of the new encoder already."""
    rows_per_shard: Count = 20_000
    """Items per shard of the full backfill."""
    max_gallery: Count = 50_000
    """Gallery items that quality is measured on (the same of both)."""
    max_queries: Count = 2_000
    """Queries that quality is measured with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgainstBackfill:
    """The full backfill of the same gallery, what each way to search is worth, and the work saved."""

    backfill: Committed
    quality: Quality
    saved: SavedWork


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonOutcome:
    """Both runs, what both are worth, and the factors between them."""

    store_uri: str
    upgrade: UpgradeOutcome
    against: AgainstBackfill


def run_compare(settings: CompareSettings, size: ClusterSize, usd_per_node_hour: float | None) -> ComparisonOutcome:
    """Upgrade a copy, backfill another, search both.

    Raises:
        SettingsError: no raw items or no encoder that can embed them, or no labels.
        GateRefusedError: the upgrade is refused, so that there is nothing to compare.
    """
    if settings.source is None:
        raise SettingsError("no --source: a full backfill needs the raw items, e.g. images:s3://bucket/photos")
    store = Store(settings.store)
    old = _old_version(settings, store)
    work = settings.work_dir or store.run_uri("compare", f"{settings.seed}")
    upgraded_uri, backfill_uri = objects.join(work, "upgrade"), objects.join(work, "backfill")
    for uri in (upgraded_uri, backfill_uri):
        objects.delete_tree(uri)
    encoder_uri = _embedding(settings.encoder, store)
    scratch = Store(upgraded_uri)
    scratch.publish(_in_place(old, store), expected=None)
    pairs_source = settings.source if settings.pairs is None else None
    chosen = dataclasses.replace(settings, store=upgraded_uri, encoder=encoder_uri, source=pairs_source)
    upgrade = run_upgrade(plan_upgrade(chosen, usd_per_node_hour, size), size)
    if upgrade.published is None or upgrade.judged is None:
        reason = "" if upgrade.judged is None else upgrade.judged.result.reason
        raise GateRefusedError(f"the upgrade was refused, so there is nothing to compare: {reason}")
    full = BackfillSettings(
        store=backfill_uri,
        source=settings.source,
        encoder=encoder_uri,
        index=settings.index,
        rows_per_shard=settings.rows_per_shard,
        seed=settings.seed,
        pool=settings.pool,
    )
    encoders = QueryEncoders(
        old_uri=_embedding(settings.old_encoder, store),
        new_uri=encoder_uri,
        side_uri=None if settings.side_encoder is None else _embedding(settings.side_encoder, store),
    )
    against = compare_with_backfill(
        upgrade,
        full,
        encoders,
        made_in=store,
        query_source=settings.queries,
        max_gallery=settings.max_gallery,
        max_queries=settings.max_queries,
        size=size,
        usd_per_node_hour=usd_per_node_hour,
    )
    return ComparisonOutcome(store_uri=settings.store, upgrade=upgrade, against=against)


def compare_with_backfill(
    upgrade: UpgradeOutcome,
    full: BackfillSettings,
    encoders: QueryEncoders,
    *,
    made_in: Store,
    query_source: str,
    max_gallery: int,
    max_queries: int,
    size: ClusterSize,
    usd_per_node_hour: float | None,
) -> AgainstBackfill:
    """Embed the gallery anew as `full` says, search old, upgraded and new, and count the work of both.

    `made_in` is the store whose ledger knows what the old version's side-information took.
    """
    assert upgrade.published is not None  # noqa: S101 (a refused upgrade has nothing to compare)
    assert upgrade.judged is not None  # noqa: S101
    old = upgrade.plan.parent
    backfill = run_backfill(plan_backfill(full), size)
    logger.info("searching the old, the upgraded and the new gallery with the same queries")
    quality = measure_quality(
        Galleries(
            store=upgrade.plan.store,
            old=old,
            upgraded=upgrade.published,
            backfill_store=backfill.store,
            backfill=backfill.published,
        ),
        encoders,
        upgrade.judged.fitted,
        query_source=query_source,
        max_gallery=max_gallery,
        max_queries=max_queries,
        seed=full.seed,
        pool=full.pool,
        size=size,
    )
    saved = work_saved(
        backfill.stages,
        upgrade.stages,
        rows=old.num_rows,
        in_advance=side_information_work(made_in, old, encoders.side_uri),
        usd_per_node_hour=usd_per_node_hour,
    )
    return AgainstBackfill(backfill=backfill, quality=quality, saved=saved)


def _old_version(settings: CompareSettings, store: Store) -> Manifest:
    newest = store.manifest(settings.version)
    target = resolve_encoder(settings.encoder, store).ref
    if settings.version is None and newest.encoder.fingerprint == target.fingerprint and newest.parent is not None:
        return store.manifest(newest.parent)
    return newest


def _embedding(name: str, store: Store) -> str:
    uri = resolve_encoder(name, store).uri
    if not isinstance(uri, str):
        raise SettingsError(f"{name!r} is only a name; want a model directory or package.module:factory that can embed")
    return uri


def _in_place(old: Manifest, store: Store) -> Manifest:
    """The old version as the first of a scratch store: its objects stay where they are."""

    def absolute(ref: ObjectRef) -> ObjectRef:
        return ref if "://" in ref.path else dataclasses.replace(ref, path=objects.as_uri(store.uri_of(ref.path)))

    def adopted(record: ShardRecord) -> ShardRecord:
        return dataclasses.replace(record, embeddings=absolute(record.embeddings), index=None)

    return dataclasses.replace(
        old,
        parent=None,
        index=None,
        shards=tuple(adopted(record) for record in old.shards),
        adopted_from=(*old.adopted_from, objects.as_uri(store.uri_of("versions"))),
    )
