"""Full backfill: raw items through encoders into a new version, shard by shard, by the same engine as an upgrade.

Owns: an embedding run's settings and order of stages. It makes version 1 of a gallery, and it is what the comparison
job measures an upgrade against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.errors import SettingsError
from fct_ray.index import factory
from fct_ray.key_types import key_type_of
from fct_ray.kinds import KeyType
from fct_ray.metering.meters import StageMeter
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.plan.identity import run_id
from fct_ray.plan.resume import shard_numbers_to_do
from fct_ray.plan.splits import sample_mask
from fct_ray.plan.versions import embedded_manifest
from fct_ray.settings import Count, CountOrZero, Seed
from fct_ray.shards.embedded_shard import EmbedDescriptor, EmbedJob, EmbedWorker
from fct_ray.shards.encoder_names import EncoderSpec, model_uri
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.shard_output import OutputJob
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents
from fct_ray.storage.store import Store
from fct_ray.values import Current, EncoderRef, IndexRef, Manifest, Receipt, SideInfoRef
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.commit import (
    Committed,
    RunInProgress,
    VersionToMake,
    commit,
    committed_before,
    now,
    published_by,
    published_now,
)
from fct_ray.workflows.run_items import RunItems, ShardRanges, items_of_run, left_out_notes, run_named
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.trained_index import check_enough_to_train, train_on_vectors, trained_index_ref
from fct_ray.workflows.verify import verify_version


@dataclass(frozen=True, kw_only=True)
class BackfillSettings(BadRowSettings):
    """Embed every raw item of a source: embeddings, side-information and index of a new version."""

    store: str
    """The store: a directory or s3:// prefix; made if it does not exist."""
    source: str
    """Raw items, e.g. "images:s3://bucket/photos", "parquet:texts/*.parquet?text=body", "fashion-mnist:gallery". A source
    that calls its items by text or UUIDs (an id column of these; "images:DIR?id=path") makes a store with these as keys."""
    encoder: str
    """The encoder: a model directory, `package.module:factory`, or a pretrained model by name, e.g.
    "sentence-transformers:all-MiniLM-L6-v2", "timm:resnet50.a1_in1k", "openai:MODEL@URL"."""
    side: str | None = None
    """The side-information model, likewise. None: store none (then a later upgrade has less to work with)."""
    side_dtype: Literal["float32", "float16", "int8"] = "float32"
    """How side-information is stored: "float32", "float16" or "int8"."""
    index: str = "Flat"
    """FAISS factory string of the index."""
    rows_per_shard: Count = 20_000
    """Items per shard: the unit of work, of resuming and of memory."""
    seed: Seed = 0
    """Seed of the index training sample."""
    verify_shards: CountOrZero = 2
    """How many shards are read back before publishing."""
    restart: bool = False
    """Begin anew with the items as they are now, also if an interrupted run could go on with those that it began with."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that embed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillPlan:
    """What the driver decided before any worker started."""

    settings: BackfillSettings
    store: Store
    current: Current | None
    run: str
    encoder_uri: EncoderSpec
    encoder: BatchEncoder
    side_uri: EncoderSpec | None
    side_info: SideInfoRef | None
    items: RunItems
    starts: range
    key_type: KeyType | None
    """What the source calls its items by, where that is no whole number."""
    finished: Manifest | None
    """The version that this very command published already, if it has."""


def plan_backfill(
    settings: BackfillSettings, *, encoder: EncoderSpec | None = None, side: EncoderSpec | None = None
) -> BackfillPlan:
    """Open source and encoders, refuse what cannot work; no worker is started.

    `encoder` and `side` are the encoders themselves, where there is more of them than the names in the settings.

    Raises:
        FctRayError: source, encoders or settings cannot work together.
    """
    store, source = Store(settings.store), open_source(settings.source)
    current, newest = published_now(store)
    encoder_uri = model_uri(settings.encoder if encoder is None else encoder, store)
    wanted_side = settings.side if side is None else side
    side_uri = None if wanted_side is None else model_uri(wanted_side, store)
    encoder, side = open_encoder(encoder_uri), None if side_uri is None else open_encoder(side_uri)
    if source.num_items == 0:
        raise SettingsError(f"{settings.source}: has no items; want at least one to embed")
    factory.check_factory(settings.index, encoder.dimension, encoder.metric)
    side_info = None
    if side is not None:
        side_info = SideInfoRef(
            name=side.name, fingerprint=side.fingerprint, dimension=side.dimension, dtype=settings.side_dtype
        )
    items, finished = _items(settings, store, source, newest, encoder, side)
    check_enough_to_train(settings.index, items.source.num_items)
    return BackfillPlan(
        settings=settings,
        store=store,
        current=current,
        run=items.run,
        finished=finished,
        encoder_uri=encoder_uri,
        encoder=encoder,
        side_uri=side_uri,
        side_info=side_info,
        items=items,
        starts=range(0, items.source.num_items, settings.rows_per_shard),
        key_type=key_type_of(source.user_ids.type),
    )


def _items(
    settings: BackfillSettings,
    store: Store,
    source: Source,
    newest: Manifest | None,
    encoder: BatchEncoder,
    side: BatchEncoder | None,
) -> tuple[RunItems, Manifest | None]:
    """The items of the run, new or interrupted; and the version that it published already, if it has."""
    decisive = {
        "source": settings.source,
        "encoder": encoder.fingerprint,
        "side": None if side is None else side.fingerprint,
        "side_dtype": settings.side_dtype,
        "index": settings.index,
        "rows_per_shard": settings.rows_per_shard,
        "seed": settings.seed,
        "threads": settings.pool.threads,
        "on_bad_row": str(settings.on_bad_row),
    }

    def request_of(parent: Manifest | None) -> str:
        before = None if parent is None else store.manifest_bytes_sha256(parent.version)
        return run_id("embed", documents.dump({"parent": before, **decisive}).decode())

    finished = published_by(store, newest, lambda parent: run_named(store, request_of(parent), source.listing))
    if finished is not None:
        return RunItems(run=finished.run, source=source), finished
    items = items_of_run(
        store,
        request_of(newest),
        source,
        ShardRanges(first_shard=0, rows_per_shard=settings.rows_per_shard),
        on_bad_row=settings.on_bad_row,
        restart=settings.restart,
    )
    return items, None


def run_backfill(plan: BackfillPlan, size: ClusterSize) -> Committed:
    """Embed all items as the next version of the store; run again after a kill, it resumes, and once done it does nothing.

    Raises:
        FctRayError: an item is bad, or the store cannot be written. CURRENT is unchanged, finished shards are kept.
    """
    notes = left_out_notes(plan.items.source)
    if plan.finished is not None:
        return replace(committed_before(plan.store, plan.run, plan.finished), notes=notes)

    def write(run: RunInProgress, version: int, _meter: StageMeter) -> IndexRef:
        items_uri = plan.items.keep(plan.store)
        index = _trained(plan, version, run.log, size)
        _stream(plan, items_uri, version, index, size)
        return index

    def manifest(version: int, index: IndexRef, receipts: Sequence[Receipt]) -> Manifest:
        return _manifest(plan, version, index, receipts)

    def verify(made: Manifest, meter: StageMeter) -> float | None:
        return verify_version(plan.store, made, None, None, num_shards=plan.settings.verify_shards, meter=meter)

    parent = None if plan.current is None else plan.current.version
    done = commit(
        VersionToMake(
            store=plan.store,
            run=plan.run,
            current=plan.current,
            parent=parent,
            write=write,
            manifest=manifest,
            verify=verify,
            bad_rows=plan.settings,
        )
    )
    return replace(done, notes=notes)


def _manifest(plan: BackfillPlan, version: int, index: IndexRef, receipts: Sequence[Receipt]) -> Manifest:
    encoder = plan.encoder
    return embedded_manifest(
        version=version,
        created_at=now(),
        encoder=EncoderRef(name=encoder.name, fingerprint=encoder.fingerprint),
        dimension=encoder.dimension,
        metric=encoder.metric,
        normalized=encoder.normalized,
        side_info=plan.side_info,
        index=index,
        receipts=receipts,
        num_shards=len(plan.starts),
        num_rows=plan.items.source.num_items,
        run=plan.run,
        parent=None if plan.current is None else plan.current.version,
        keys=plan.key_type,
    )


def _stream(plan: BackfillPlan, items_uri: str, version: int, index: IndexRef, size: ClusterSize) -> None:
    settings = plan.settings
    job = EmbedJob(
        output=OutputJob(
            store_uri=plan.store.uri,
            version=version,
            run=plan.run,
            metric=plan.encoder.metric,
            dimension=plan.encoder.dimension,
            index=index,
            threads=settings.pool.threads,
            on_bad_row=settings.on_bad_row,
            max_bad_rows=settings.max_bad_rows,
        ),
        items_uri=items_uri,
        encoder_uri=plan.encoder_uri,
        side_uri=plan.side_uri,
        side_dtype=settings.side_dtype,
        key_type=plan.key_type,
    )
    descriptors = [
        EmbedDescriptor(
            shard=shard,
            start=plan.starts[shard],
            stop=min(plan.items.source.num_items, plan.starts[shard] + settings.rows_per_shard),
        )
        for shard in shard_numbers_to_do(len(plan.starts), plan.store.ledger(plan.run))
    ]
    stream_shards(
        descriptors,
        EmbedWorker,
        job,
        pool=settings.pool,
        size=size,
        describe=f"embed with {plan.encoder.name}",
    )


def _trained(plan: BackfillPlan, version: int, log: RunUsage, size: ClusterSize) -> IndexRef:
    """The index, trained on the embeddings of a sample of items where its type needs training."""
    settings = plan.settings
    known = trained_index_ref(plan.store, version, settings.index)
    if known is not None:
        return known
    source = plan.items.source
    count = min(source.num_items, factory.training_rows_wanted(settings.index))
    positions_N = np.flatnonzero(sample_mask(source.ids_N, count, settings.seed))
    sample = encode_items(
        source,
        (plan.encoder_uri,),
        positions_N,
        pool=settings.pool,
        size=size,
        describe="embed a sample to train the index",
    )
    log.record_part("stream", "sample", sample.usage.replace(rows=0))
    return train_on_vectors(
        plan.store,
        version,
        sample.embeddings[0],
        index_factory=settings.index,
        metric=plan.encoder.metric,
        seed=settings.seed,
        log=log,
    )
