"""Ours: the streaming stage of jobs/upgrade.py, on a cluster that runs already; Parquet, index, hashes and receipts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from fct_ray.bench import dataset
from fct_ray.bench.contenders import ContenderJob, Done
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.adoption import AdoptSettings, run_adopt
from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.engine.meters import StageMeter
from fct_ray.engine.model_store import load_model
from fct_ray.engine.transform_stream import TransformStream, stream_transformed
from fct_ray.storage import objects
from fct_ray.storage.store import Store


def adopt(job: ContenderJob) -> Store:
    """A store in the output directory that points at the data set's shards."""
    uri = objects.join(job.output, "store")
    run_adopt(AdoptSettings(store=uri, embeddings=job.shards, encoder=dataset.OLD_NAME, side=dataset.SIDE_NAME))
    return Store(uri)


def prepare(job: ContenderJob) -> Callable[[], Done]:
    """Start a cluster and adopt the shards."""
    cluster = ExitStack()
    size = cluster.enter_context(connected(ClusterSettings(num_cpus=job.threads)))
    store = adopt(job)
    parent, document = store.manifest(), load_model(job.transformation).document
    stream = TransformStream(
        store=store,
        parent=parent,
        version=store.claim_version("bench"),
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
            _, receipts = stream_transformed(stream, pool=PoolSettings(), size=size, meter=StageMeter())
            ended_s = time.time() - started_at
        written = store.uri_of(receipts[0].record.embeddings.path).rpartition("/")[0]
        return Done(
            rows=sum(receipt.record.rows for receipt in receipts),
            embeddings=written,
            first_row_s=min(receipt.started_at for receipt in receipts) - started_at,
            parts={"stream": ended_s},
        )

    return run
