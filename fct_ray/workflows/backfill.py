"""Full backfill: raw items through encoders into a new version, shard by shard, by the same engine as an upgrade.

Owns: an embedding run's settings and order of stages. It makes version 1 of a gallery, and it is what the comparison
job measures an upgrade against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.errors import SettingsError
from fct_ray.index import build, factory
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.plan.identity import run_id
from fct_ray.plan.resume import shard_numbers_to_do
from fct_ray.plan.splits import sample_mask
from fct_ray.plan.versions import embedded_manifest
from fct_ray.shards.embed import EmbedDescriptor, EmbedJob, EmbedWorker
from fct_ray.shards.model_directory import model_uri, open_encoder
from fct_ray.shards.write import OutputJob
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, leases, objects
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import Current, EncoderRef, IndexRef, Manifest, ObjectRef, SideInfoRef, Usage
from fct_ray.workflows.bad_rows import BadRowSettings, list_bad_rows
from fct_ray.workflows.embed_items import encode_items
from fct_ray.workflows.index_training import check_enough_to_train, trained_index_ref
from fct_ray.workflows.run_log import RunLog, now
from fct_ray.workflows.verify import verify_version


@dataclass(frozen=True, kw_only=True)
class BackfillSettings(BadRowSettings):
    """Embed every raw item of a source: embeddings, side-information and index of a new version."""

    store: str
    """The store: a directory or s3:// prefix; made if it does not exist."""
    source: str
    """Raw items, e.g. "images:s3://bucket/photos", "parquet:texts/*.parquet?text=body", "fashion-mnist:gallery"."""
    encoder: str
    """The encoder: a model directory or `package.module:factory`."""
    side: str | None = None
    """The side-information model, likewise. None: store none (then a later upgrade has less to work with)."""
    side_dtype: str = "float32"
    """How side-information is stored: "float32", "float16" or "int8"."""
    index: str = "Flat"
    """FAISS factory string of the index."""
    rows_per_shard: int = 20_000
    """Items per shard: the unit of work, of resuming and of memory."""
    seed: int = 0
    """Seed of the index training sample."""
    verify_shards: int = 2
    """How many shards are read back before publishing."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that embed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillPlan:
    """What the driver decided before any worker started."""

    store: Store
    current: Current | None
    run: str
    encoder_uri: str
    encoder: BatchEncoder
    side_uri: str | None
    side_info: SideInfoRef | None
    ids_N: npt.NDArray[np.int64]
    starts: range


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillOutcome:
    """What a full backfill published, and what it took."""

    store: Store
    published: Manifest
    stages: Mapping[str, Usage]
    recall: float
    num_bad_rows: int = 0


def plan_backfill(settings: BackfillSettings) -> BackfillPlan:
    """Open source and encoders, refuse what cannot work; no worker is started.

    Raises:
        FctRayError: source, encoders or settings cannot work together.
    """
    store, source = Store(settings.store), open_source(settings.source)
    current = store.current()
    encoder_uri = model_uri(settings.encoder, store)
    side_uri = None if settings.side is None else model_uri(settings.side, store)
    encoder, side = open_encoder(encoder_uri), None if side_uri is None else open_encoder(side_uri)
    if source.num_items == 0 or settings.rows_per_shard < 1:
        raise SettingsError(
            f"{settings.source}: {source.num_items} items, {settings.rows_per_shard} rows per shard; want at least 1 of each"
        )
    factory.check_factory(settings.index, encoder.dimension, encoder.metric)
    check_enough_to_train(settings.index, source.num_items)
    side_info = None
    if side is not None:
        side_info = SideInfoRef(
            name=side.name, fingerprint=side.fingerprint, dimension=side.dimension, dtype=settings.side_dtype
        )
    decisive = {
        "parent": None if current is None else current.sha256,
        "source": settings.source,
        "ids": documents.sha256_hex(source.ids_N.tobytes()),
        "encoder": encoder.fingerprint,
        "side": None if side is None else side.fingerprint,
        "side_dtype": settings.side_dtype,
        "index": settings.index,
        "rows_per_shard": settings.rows_per_shard,
        "seed": settings.seed,
        "threads": settings.pool.threads,
        "on_bad_row": str(settings.on_bad_row),
    }
    return BackfillPlan(
        store=store,
        current=current,
        run=run_id("embed", documents.dump(decisive).decode()),
        encoder_uri=encoder_uri,
        encoder=encoder,
        side_uri=side_uri,
        side_info=side_info,
        ids_N=source.ids_N,
        starts=range(0, source.num_items, settings.rows_per_shard),
    )


def run_backfill(settings: BackfillSettings, plan: BackfillPlan, size: ClusterSize) -> BackfillOutcome:
    """Embed all items as the next version of the store; run again after a kill, it resumes.

    Raises:
        FctRayError: an item is bad, or the store cannot be written. CURRENT is unchanged, finished shards are kept.
    """
    store, log = plan.store, RunLog(plan.store, plan.run)
    pinned = () if plan.current is None else (plan.current.version,)
    with leases.take(store, plan.run, plan.run, versions=pinned) as lease:
        return _embed_and_publish(settings, plan, log, size, lease)


def _embed_and_publish(
    settings: BackfillSettings, plan: BackfillPlan, log: RunLog, size: ClusterSize, lease: Lease
) -> BackfillOutcome:
    store = plan.store
    version = store.claim_version(plan.run, None if plan.current is None else plan.current.version)
    with log.stage("stream"):
        index = _trained(settings, plan, version, log, size)
        _stream(settings, plan, version, index, size)
    receipts = store.ledger(plan.run)
    num_bad = list_bad_rows(store, plan.run, receipts, settings.max_bad_rows)
    encoder = plan.encoder
    manifest = embedded_manifest(
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
        num_rows=len(plan.ids_N),
        run=plan.run,
        parent=None if plan.current is None else plan.current.version,
    )
    with log.stage("verify") as meter:
        recall = verify_version(store, manifest, None, None, num_shards=settings.verify_shards, meter=meter)
    with log.stage("publish"), leases.publishing(store, plan.run):
        lease.check()
        store.publish(manifest, expected=plan.current)
    return BackfillOutcome(store=store, published=manifest, stages=log.used(), recall=recall, num_bad_rows=num_bad)


def _stream(settings: BackfillSettings, plan: BackfillPlan, version: int, index: IndexRef, size: ClusterSize) -> None:
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
        source_spec=settings.source,
        encoder_uri=plan.encoder_uri,
        side_uri=plan.side_uri,
        side_dtype=settings.side_dtype,
    )
    descriptors = [
        EmbedDescriptor(
            shard=shard,
            start=plan.starts[shard],
            stop=min(len(plan.ids_N), plan.starts[shard] + settings.rows_per_shard),
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


def _trained(settings: BackfillSettings, plan: BackfillPlan, version: int, log: RunLog, size: ClusterSize) -> IndexRef:
    """The index, trained on the embeddings of a sample of items where its type needs training."""
    known = trained_index_ref(plan.store, version, settings.index)
    if known is not None:
        return known
    count = min(len(plan.ids_N), factory.training_rows_wanted(settings.index))
    positions_N = np.flatnonzero(sample_mask(plan.ids_N, count, settings.seed))
    sample = encode_items(
        settings.source,
        (plan.encoder_uri,),
        positions_N,
        pool=settings.pool,
        size=size,
        describe="embed a sample to train the index",
    )
    log.record_part("stream", "training", sample.usage.replace(rows=0))
    trained = build.train_index(
        settings.index, plan.encoder.dimension, plan.encoder.metric, sample.embeddings[0], settings.seed
    )
    path = plan.store.trained_path(version)
    num_bytes, sha256 = objects.write_bytes(plan.store.uri_of(path), trained)
    return IndexRef(factory=settings.index, trained=ObjectRef(path=path, bytes=num_bytes, sha256=sha256))
