"""The one trained quantizer that all shards of a version share, from a sample of the vectors they will hold.

Owns: which rows are sampled (a hash of the id, from shards spread over the version) and where the trained index lies.
Memory is bounded by the sample, never by the gallery.
"""

from __future__ import annotations

import numpy as np
import ray

from fct_ray.engine.meters import ProcessMeter
from fct_ray.engine.model_store import load_model
from fct_ray.engine.run_log import RunLog
from fct_ray.engine.shard_reading import ShardSelection, select_rows
from fct_ray.engine.transforming import TransformRunner
from fct_ray.engine.worker_errors import worker_error
from fct_ray.errors import SettingsError
from fct_ray.index import build, factory
from fct_ray.plan.splits import pairs_per_shard
from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store
from fct_ray.values import IndexRef, Manifest, Metric, ObjectRef, Precision, Usage

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
    log: RunLog,
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
            uri=store.uri_of(record.embeddings.path),
            dimension=manifest.dimension,
            side_dimension=side_dimension,
            wanted_ids=None,
            count=count,
            seed=seed,
        )
        for record, count in zip(records, counts, strict=True)
    ]
    uri = store.uri_of(store.trained_path(version))
    task = ray.remote(_train).remote(
        selections, transformation_uri, precision, index_factory, metric, seed, batch_rows, uri, log
    )
    try:
        size, sha256 = ray.get(task)
    except Exception as error:
        raise worker_error(error) from error
    return IndexRef(
        factory=index_factory, trained=ObjectRef(path=store.trained_path(version), bytes=size, sha256=sha256)
    )


def _train(
    selections: list[ShardSelection],
    transformation_uri: str,
    precision: Precision,
    index_factory: str,
    metric: Metric,
    seed: int,
    batch_rows: int,
    uri: str,
    log: RunLog,
) -> tuple[int, str]:
    meter, usage = ProcessMeter(), Usage()
    runner = TransformRunner(load_model(transformation_uri), batch_rows=batch_rows, precision=precision)
    parts = []
    for selection in selections:
        table, read = select_rows(selection)
        old, side = (
            table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            if name in table.column_names
            else None
            for name in ("old", "side")
        )
        assert old is not None  # noqa: S101 (select_rows always gives it)
        vectors, used = runner.run(old, side)
        parts.append(vectors)
        usage = usage + used + read.replace(busy_cpu_s=0.0, rows=0)  # rows of the stage are rows written
    sample = np.concatenate(parts)
    trained = build.train_index(index_factory, sample.shape[1], metric, sample, seed)
    log.record_part("stream", "training", usage + meter.read() + Usage(bytes_written=len(trained)))
    return objects.write_bytes(uri, trained)
