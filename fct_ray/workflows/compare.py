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
from fct_ray.kinds import Accept
from fct_ray.plan.checks import check_budget
from fct_ray.plan.forecast import Forecast
from fct_ray.plan.identity import run_id
from fct_ray.plan.savings import SavedWork, work_saved
from fct_ray.settings import Count
from fct_ray.shards.encoder_names import EncoderChoice, cannot_embed, resolve_encoder, why_not
from fct_ray.shards.model_directory import embedding_encoder
from fct_ray.storage import leases, objects
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ObjectRef, ShardRecord
from fct_ray.workflows.backfill import BackfillPlan, BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.commit import Committed
from fct_ray.workflows.quality import Galleries, Quality, QueryEncoders, check_labels, measure_quality
from fct_ray.workflows.scratch import scratch_places
from fct_ray.workflows.side_information import side_information_work
from fct_ray.workflows.upgrade.forecast import backfill_forecast
from fct_ray.workflows.upgrade.plan import UpgradePlan, plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(UpgradeSettings):
    """Measure what an upgrade saves against a full backfill of the same gallery, and what both are worth."""

    queries: str = dataclasses.field()
    """Labelled queries, e.g. "fashion-mnist:query"; the store's shards must carry a `label` column."""
    old_encoder: str = dataclasses.field()
    """The encoder that embeds the old queries: a model directory, `package.module:factory` or a pretrained model. Its name
    alone where it is gone: then nothing is measured of old queries."""
    side_encoder: str | None = None
    """The side-information model, likewise, to measure fused search and to count what it took."""
    work_dir: str | None = None
    """Where the two scratch stores go, as `upgrade` and `backfill`; they are made anew each time, and a place that this verb
    did not make is refused. None: with the run in the store (`runs/<run id>/scratch`)."""
    version: Count | None = None
    """The old version. None: CURRENT, or its parent where CURRENT is of the new encoder already."""
    rows_per_shard: Count = 20_000
    """Items per shard of the full backfill."""
    max_gallery: Count = 50_000
    """Gallery items that quality is measured on (the same of both)."""
    max_queries: Count = 2_000
    """Queries that quality is measured with."""

    @property
    def queries_file(self) -> None:
        """None: `queries` are raw items here. What the comparison publishes lies in a scratch store."""
        return

    @property
    def encoders_are_for_views(self) -> bool:
        """False: they embed the queries."""
        return False


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
    forecast: Forecast
    """What both runs were expected to take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What both runs will do; decided and checked before either starts."""

    upgrade: UpgradePlan
    backfill: BackfillPlan
    encoders: QueryEncoders
    forecast: Forecast


def run_compare(settings: CompareSettings, size: ClusterSize, usd_per_node_hour: float | None) -> ComparisonOutcome:
    """Upgrade a copy, backfill another, search both.

    Raises:
        SettingsError: no raw items, no encoder that can embed them, no labels, or not a work directory of `compare`.
        LeaseHeldError: another comparison is at work in the same place.
        GateRefusedError: the upgrade is refused, so that there is nothing to compare.
    """
    store = Store(settings.store)
    old, run = _old_version(settings, store), run_id("compare", settings.work_dir or "", str(settings.seed))
    work = settings.work_dir or store.run_uri(run, "scratch")
    with (
        leases.take(store, run, run, versions=(old.version,)),
        scratch_places(work, "compare", ("upgrade", "backfill"), "--work-dir") as (upgrade_uri, backfill_uri),
    ):
        _refuse_keys(old)
        check_labels(store, old, settings.queries)
        Store(upgrade_uri).publish(_in_place(old, store), expected=None)
        plan = _plan(settings, store, upgrade_uri, backfill_uri, size, usd_per_node_hour)
        upgrade = run_upgrade(plan.upgrade, size)
        if upgrade.published is None or upgrade.judged is None:
            reason = "" if upgrade.judged is None else upgrade.judged.result.reason
            raise GateRefusedError(f"the upgrade was refused, so there is nothing to compare: {reason}")
        against = compare_with_backfill(
            upgrade,
            plan.backfill,
            plan.encoders,
            made_in=store,
            query_source=settings.queries,
            max_gallery=settings.max_gallery,
            max_queries=settings.max_queries,
            size=size,
            usd_per_node_hour=usd_per_node_hour,
        )
    return ComparisonOutcome(store_uri=settings.store, upgrade=upgrade, against=against, forecast=plan.forecast)


def _plan(
    settings: CompareSettings,
    store: Store,
    upgrade_uri: str,
    backfill_uri: str,
    size: ClusterSize,
    usd_per_node_hour: float | None,
) -> _Plan:
    if settings.source is None:
        raise SettingsError("no --source: a full backfill needs the raw items, e.g. images:s3://bucket/photos")
    encoder_uri = _embedding(settings.encoder, store)
    pairs_source = settings.source if settings.pairs is None else None
    old = _old_encoder(settings, store)
    encoders = QueryEncoders(
        old_uri=old.uri if isinstance(old.uri, str) else None,
        new_uri=encoder_uri,
        side_uri=None if settings.side_encoder is None else _embedding(settings.side_encoder, store),
        why_not_old=why_not(old),
    )
    chosen = dataclasses.replace(
        settings,
        store=upgrade_uri,
        encoder=encoder_uri,
        old_encoder=encoders.old_uri or settings.old_encoder,
        side_encoder=encoders.side_uri,
        source=pairs_source,
        accept=Accept.PROVISIONAL,
    )
    upgrade = plan_upgrade(chosen, usd_per_node_hour, size)
    backfill = plan_backfill(
        BackfillSettings(
            store=backfill_uri,
            source=settings.source,
            encoder=encoder_uri,
            index=settings.index,
            rows_per_shard=settings.rows_per_shard,
            seed=settings.seed,
            pool=settings.pool,
        )
    )
    full = backfill_forecast(
        backfill.items.source.num_items, backfill.encoder, usd_per_node_hour=usd_per_node_hour, size=size
    )
    expected = upgrade.forecast + full
    check_budget(expected, max_usd=settings.max_usd)
    return _Plan(upgrade=upgrade, backfill=backfill, encoders=encoders, forecast=expected)


def compare_with_backfill(
    upgrade: UpgradeOutcome,
    full: BackfillPlan,
    encoders: QueryEncoders,
    *,
    made_in: Store,
    query_source: str,
    max_gallery: int,
    max_queries: int,
    size: ClusterSize,
    usd_per_node_hour: float | None,
) -> AgainstBackfill:
    """Embed the gallery anew as `full` plans it, search old, upgraded and new, and count the work of both.

    `made_in` is the store whose ledger knows what the old version's side-information took.
    """
    assert upgrade.published is not None  # noqa: S101 (a refused upgrade has nothing to compare)
    assert upgrade.judged is not None  # noqa: S101
    old = upgrade.plan.parent
    backfill = run_backfill(full, size)
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
        seed=full.settings.seed,
        pool=full.settings.pool,
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


def _old_encoder(settings: CompareSettings, store: Store) -> EncoderChoice:
    """The old encoder; without a place where it is gone, and the old version is its own.

    Raises:
        SettingsError: it is gone, and it is not the version's encoder by fingerprint or name: perhaps it is misspelt.
    """
    old, choice = _old_version(settings, store).encoder, embedding_encoder(settings.old_encoder, store)
    if choice.uri is not None:
        return choice
    if choice.ref.fingerprint != old.fingerprint and choice.ref.name != old.name:
        raise SettingsError(
            f"--old-encoder: {cannot_embed(settings.old_encoder, choice)}; if the model that made the store's vectors is "
            f"gone, give its name, {old.name!r}"
        )
    logger.warning("old queries are not measured: the old encoder %r %s", old.name, why_not(choice))
    return choice


def _refuse_keys(old: Manifest) -> None:
    if old.keys is not None:
        raise SettingsError(
            f"version {old.version} calls its items by keys ({old.keys}); a comparison finds the same items on both sides by "
            "whole numbers, so it wants a store without keys. Upgrade with --queries: the report tells what that is worth"
        )


def _embedding(name: str, store: Store) -> str:
    choice = embedding_encoder(name, store)
    if not isinstance(choice.uri, str):
        raise SettingsError(cannot_embed(name, choice))
    return choice.uri


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
