"""Ours: jobs/upgrade.py --pairs, whole, and its streaming stage alone.

The stage runs on a cluster that runs already, and writes Parquet, index, hashes and receipts; the whole upgrade starts its
own local cluster, fits an h of its own and publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fct_ray.bench import dataset
from fct_ray.bench.pipelines import Done, PipelineJob
from fct_ray.bench.pipelines.running_cluster import start_cluster
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.errors import GateRefusedError
from fct_ray.kinds import Accept, WayChoice
from fct_ray.metering.meters import measure_stage
from fct_ray.shards.model_directory import load_model
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed


def prepare_stage(job: PipelineJob) -> Callable[[], Done]:
    """Start a cluster and adopt the shards; only the streaming stage is timed."""
    cluster, size = start_cluster(job)
    store = _adopt(job)
    parent, document = store.manifest(), load_model(job.transformation).document
    stream = TransformStream(
        store=store,
        parent=parent,
        run="bench",
        transformation_uri=job.transformation,
        use_side=load_model(job.transformation).transformation().architecture.side_dimension > 0,
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


def prepare_whole(job: PipelineJob) -> Callable[[], Done]:
    """Adopt the shards; the upgrade starts its own cluster, as a user's would."""
    cluster = ClusterSettings(num_cpus=job.threads)
    with connected(cluster):
        store = _adopt(job)
    settings = UpgradeSettings(
        store=store.uri,
        encoder=dataset.NEW_NAME,
        pairs=job.pairs,
        index=job.index_factory,
        batch_rows=job.batch_rows,
        way=WayChoice.H,
        accept=Accept.PROVISIONAL,
    )

    def run() -> Done:
        plan = plan_upgrade(settings, None, None)
        with connected(cluster) as size:
            outcome = run_upgrade(plan, size)
        if outcome.published is None:
            raise GateRefusedError("the gate refused the benchmark's h: its pairs are not what they should be")
        figures = {f"{name}_s": usage.wall_s for name, usage in outcome.stages.items()}
        return Done(rows=outcome.published.num_rows, embeddings=None, figures=figures)

    return run


def _adopt(job: PipelineJob) -> Store:
    """A store in the output directory that points at the data set's shards."""
    uri = objects.join(job.output, "store")
    run_adopt(
        plan_adopt(AdoptSettings(store=uri, embeddings=job.shards, encoder=dataset.OLD_NAME, side=dataset.SIDE_NAME))
    )
    return Store(uri)
