"""Ours: the streaming stage of jobs/upgrade.py, on a cluster that runs already; Parquet, index, hashes and receipts."""

from __future__ import annotations

import time
from collections.abc import Callable

from fct_ray.bench import dataset
from fct_ray.bench.contenders import ContenderJob, Done
from fct_ray.bench.contenders.running_cluster import start_cluster
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.metering.meters import measure_stage
from fct_ray.shards.model_directory import load_model
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed


def adopt(job: ContenderJob) -> Store:
    """A store in the output directory that points at the data set's shards."""
    uri = objects.join(job.output, "store")
    run_adopt(
        plan_adopt(AdoptSettings(store=uri, embeddings=job.shards, encoder=dataset.OLD_NAME, side=dataset.SIDE_NAME))
    )
    return Store(uri)


def prepare(job: ContenderJob) -> Callable[[], Done]:
    """Start a cluster and adopt the shards."""
    cluster, size = start_cluster(job)
    store = adopt(job)
    parent, document = store.manifest(), load_model(job.transformation).document
    stream = TransformStream(
        store=store,
        parent=parent,
        run="bench",
        transformation_uri=job.transformation,
        use_side=True,
        dimension=document.dimension,
        metric=document.metric,
        index_factory=job.index_factory,
        seed=0,
        batch_rows=job.batch_rows,
    )

    def run() -> Done:
        with cluster:
            started_at = time.time()
            with measure_stage() as meter:
                _, _, receipts = stream_transformed(stream, parent, pool=PoolSettings(), size=size)
        return Done(
            rows=sum(receipt.record.rows for receipt in receipts),
            embeddings=store.uri_of(receipts[0].record.embeddings.path).rpartition("/")[0],
            first_row_s=min(receipt.started_at for receipt in receipts) - started_at,
            figures={
                "stream_s": meter.measured.wall_s,
                "driver_cpu_s": meter.measured.busy_cpu_s,
                "workers_cpu_s": sum(receipt.usage.busy_cpu_s for receipt in receipts),
                "peak_worker_bytes": float(max(receipt.peak_memory_bytes for receipt in receipts)),
            },
        )

    return run
