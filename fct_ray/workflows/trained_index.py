"""The one trained quantizer that all shards of a version share, from a sample of the vectors they will hold.

Owns: which rows are sampled (a hash of the id, from shards spread over the version) and where the trained index lies.
Memory is bounded by the sample, never by the gallery.
"""

from __future__ import annotations

import numpy as np

from fct_ray.engine.tasks import run_task
from fct_ray.errors import SettingsError
from fct_ray.index import factory
from fct_ray.kinds import Metric, Precision
from fct_ray.plan.splits import pairs_per_shard
from fct_ray.shards.stored_rows import ShardSelection
from fct_ray.shards.trained_index import FloatArray, TrainingJob
from fct_ray.shards.trained_index import train_on_transformed as train_on_transformed_task
from fct_ray.shards.trained_index import train_on_vectors as train_on_vectors_task
from fct_ray.storage import documents, objects
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import IndexRef, Manifest, ObjectRef
from fct_ray.workflows.run_usage import RunUsage

MAX_SAMPLED_SHARDS = 32


def check_enough_to_train(index_factory: str, num_rows: int) -> None:
    """Refuse, before any worker starts, an index type that wants more training rows than the gallery has."""
    wanted = factory.minimum_training_rows(index_factory) if factory.needs_training(index_factory) else 0
    if num_rows < wanted:
        raise SettingsError(
            f"index {index_factory!r} wants at least {wanted:,} rows to train on, the gallery has {num_rows:,}: use "
            'fewer lists or smaller codes, or "Flat"'
        )


def trained_index_ref(store: Store, version: int, index_factory: str) -> IndexRef | None:
    """The index of a version that was trained already (a resumed run), or None."""
    if not factory.needs_training(index_factory):
        return IndexRef(factory=index_factory)
    path = store.trained_path(version)
    uri = store.uri_of(path)
    if not objects.exists(uri):
        return None
    data = objects.read_bytes(uri)
    return IndexRef(
        factory=index_factory, trained=ObjectRef(path=path, bytes=len(data), sha256=documents.sha256_hex(data))
    )


def train_on_transformed(
    store: Store,
    manifest: Manifest,
    version: int,
    *,
    index_factory: str,
    metric: Metric,
    transformation_uri: str,
    precision: Precision,
    side_dimension: int | None,
    seed: int,
    batch_rows: int,
    log: RunUsage,
) -> IndexRef:
    """Train the index of `version` on transformed rows of the parent, unless it needs no training or has been.

    What it takes is a part of the run's stage "stream", recorded by the task that does it.
    """
    known = trained_index_ref(store, version, index_factory)
    if known is not None:
        return known
    chosen = np.unique(np.linspace(0, len(manifest.shards) - 1, MAX_SAMPLED_SHARDS).astype(int))
    records = [manifest.shards[position] for position in chosen]
    rows = [record.rows for record in records]
    counts = pairs_per_shard(rows, min(sum(rows), factory.training_rows_wanted(index_factory)))
    selections = [
        ShardSelection(
            store_uri=store.uri,
            embeddings=record.embeddings,
            reading=Reading.of(manifest),
            first_id=record.id_min,
            dimension=manifest.dimension,
            side_dimension=side_dimension,
            wanted_ids=None,
            count=count,
            seed=seed,
        )
        for record, count in zip(records, counts, strict=True)
    ]
    job = _job(store, version, index_factory=index_factory, metric=metric, seed=seed, log=log)
    trained = run_task(train_on_transformed_task, job, selections, transformation_uri, precision, batch_rows)
    return IndexRef(factory=index_factory, trained=trained)


def train_on_vectors(
    store: Store, version: int, sample_SW: FloatArray, *, index_factory: str, metric: Metric, seed: int, log: RunUsage
) -> IndexRef:
    """Train the index of `version` on these vectors, in a task: the driver may have few CPUs and little memory."""
    job = _job(store, version, index_factory=index_factory, metric=metric, seed=seed, log=log)
    return IndexRef(factory=index_factory, trained=run_task(train_on_vectors_task, job, sample_SW))


def _job(store: Store, version: int, *, index_factory: str, metric: Metric, seed: int, log: RunUsage) -> TrainingJob:
    return TrainingJob(
        store_uri=store.uri,
        path=store.trained_path(version),
        run=log.run,
        index_factory=index_factory,
        metric=metric,
        seed=seed,
    )
