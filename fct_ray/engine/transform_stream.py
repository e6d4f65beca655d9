"""The upgrade's stream: every shard of a version through h into the next version, onto one trained index.

Owns: what the workers are told, which shards are left to do, and the receipts of all attempts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.index_training import train_on_transformed
from fct_ray.engine.meters import StageMeter
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.engine.shard_worker import OutputJob, TransformJob, TransformWorker
from fct_ray.plan.resume import done_receipts, shards_to_do
from fct_ray.storage import documents
from fct_ray.storage.store import Store
from fct_ray.values import IndexRef, Manifest, Metric, Receipt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformStream:
    """From which version, by which h, into which."""

    store: Store
    parent: Manifest
    version: int
    run: str
    transformation_uri: str
    use_side: bool
    dimension: int
    metric: Metric
    index_factory: str
    seed: int
    batch_rows: int

    @property
    def side_dimension(self) -> int | None:
        """Dimension of the side-information that h reads; None if it reads none."""
        side = self.parent.side_info
        return side.dimension if side is not None and self.use_side else None


def stream_transformed(
    stream: TransformStream, *, pool: PoolSettings, size: ClusterSize, meter: StageMeter
) -> tuple[IndexRef, list[Receipt]]:
    """Train the index if it needs that, then transform and index every shard that has no receipt yet.

    Returns the index and the receipts of all shards. The workers' usage is in the receipts, that of training in `meter`.

    Raises:
        FctRayError: what a worker raised, naming the shard. Finished shards stay finished.
    """
    index = train_on_transformed(
        stream.store,
        stream.parent,
        stream.version,
        index_factory=stream.index_factory,
        metric=stream.metric,
        transformation_uri=stream.transformation_uri,
        side_dimension=stream.side_dimension,
        seed=stream.seed,
        batch_rows=stream.batch_rows,
        meter=meter,
    )
    todo = shards_to_do(stream.parent.shards, stream.store.ledger(stream.version, stream.run))
    if len(todo) < len(stream.parent.shards):
        logger.info(
            "resuming: %d of %d shards are done", len(stream.parent.shards) - len(todo), len(stream.parent.shards)
        )
    stream_shards(
        [documents.dump(record).decode() for record in todo],
        TransformWorker,
        _job(stream, index, pool),
        pool=pool,
        size=size,
        describe="transform and index",
    )
    return index, done_receipts(stream.parent.shards, stream.store.ledger(stream.version, stream.run))


def _job(stream: TransformStream, index: IndexRef, pool: PoolSettings) -> TransformJob:
    return TransformJob(
        output=OutputJob(
            store_uri=stream.store.uri,
            version=stream.version,
            run=stream.run,
            metric=stream.metric,
            dimension=stream.dimension,
            index_factory=index.factory,
            trained_path=None if index.trained is None else index.trained.path,
            threads=pool.threads,
        ),
        transformation_uri=stream.transformation_uri,
        old_dimension=stream.parent.dimension,
        side_dimension=stream.side_dimension,
        batch_rows=stream.batch_rows,
    )
