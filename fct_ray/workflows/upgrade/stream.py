"""The upgrade's stream: every shard of a version through h into the next version, onto one trained index.

Owns: what the workers are told, which shards are left to do, and the receipts of all attempts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.kinds import Metric, Precision
from fct_ray.plan.resume import done_receipts, shards_to_do
from fct_ray.shards.shard_output import OutputJob
from fct_ray.shards.transformed_shard import TransformJob, TransformWorker
from fct_ray.storage import objects
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import IndexRef, Manifest, Receipt
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.trained_index import train_on_transformed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformStream:
    """From which version, by which h, onto which index."""

    store: Store
    parent: Manifest
    """The version that the run started from; the index is trained on it."""
    run: str
    transformation_uri: str
    precision: Precision = Precision.FLOAT32
    use_side: bool
    dimension: int
    metric: Metric
    index_factory: str
    seed: int
    batch_rows: int
    bad_rows: BadRowSettings = field(default_factory=BadRowSettings)

    @property
    def side_dimension(self) -> int | None:
        """Dimension of the side-information that h reads; None if it reads none."""
        side = self.parent.side_info
        return side.dimension if side is not None and self.use_side else None


def stream_transformed(
    stream: TransformStream, head: Manifest, *, pool: PoolSettings, size: ClusterSize
) -> tuple[int, IndexRef, list[Receipt]]:
    """Train the index if it needs that, then transform and index every shard of `head` that has no receipt yet.

    `head` is `stream.parent`, or what became of it by appending and deleting: shards that both have are done once.
    Returns the new version's number, its index and the receipts of all shards. The workers' usage is in the receipts,
    that of training in the run's log.

    Raises:
        FctRayError: what a worker raised, naming the shard. Finished shards stay finished.
    """
    index = train_on_transformed(
        stream.store,
        stream.parent,
        stream.store.claim_version(stream.run, stream.parent.version),
        index_factory=stream.index_factory,
        metric=stream.metric,
        transformation_uri=stream.transformation_uri,
        precision=stream.precision,
        side_dimension=stream.side_dimension,
        seed=stream.seed,
        batch_rows=stream.batch_rows,
        log=RunUsage(stream.store, stream.run),
    )
    version = stream.store.claim_version(stream.run, head.version)
    todo = shards_to_do(head.shards, stream.store.ledger(stream.run))
    if 0 < len(todo) < len(head.shards):
        logger.info("%d of %d shards are done already", len(head.shards) - len(todo), len(head.shards))
    stream_shards(
        todo,
        TransformWorker,
        _job(stream, head, version, index, pool),
        pool=pool,
        size=size,
        describe="transform and index",
        shards_per_actor=pool.shards_per_actor or (2 if objects.is_s3(stream.store.uri) else 1),
    )
    return version, index, done_receipts(head.shards, stream.store.ledger(stream.run))


def _job(stream: TransformStream, head: Manifest, version: int, index: IndexRef, pool: PoolSettings) -> TransformJob:
    return TransformJob(
        output=OutputJob(
            store_uri=stream.store.uri,
            version=version,
            run=stream.run,
            metric=stream.metric,
            dimension=stream.dimension,
            index=index,
            threads=pool.threads,
            on_bad_row=stream.bad_rows.on_bad_row,
            max_bad_rows=stream.bad_rows.max_bad_rows,
        ),
        transformation_uri=stream.transformation_uri,
        precision=stream.precision,
        old_dimension=stream.parent.dimension,
        side_dimension=stream.side_dimension,
        batch_rows=stream.batch_rows,
        reading=Reading.of(head),
    )
