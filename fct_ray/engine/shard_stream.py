"""Shards through a pool of actors: one task per shard, one receipt per shard.

    descriptors --> [actor: read -> compute -> write + index -> receipt] --> progress

Vectors never pass through the object store, so its size and spilling do not matter here. The ledger is read from storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fct_ray.engine.actor_pool import PoolSettings, Worker, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.progress import bar
from fct_ray.storage import documents


def stream_shards(
    descriptors: Sequence[object],
    worker: Callable[..., Worker],
    job: object,
    *,
    pool: PoolSettings,
    size: ClusterSize,
    describe: str,
    shards_per_actor: int = 1,
) -> None:
    """Run `worker(job)` actors over all descriptors, which they get as JSON; each leaves its receipt in the ledger.

    An actor works on up to `shards_per_actor` shards at a time, each in a thread of its own.

    Raises:
        FctRayError: what a worker raised, naming the shard. Finished shards stay finished: their receipts are durable.
    """
    if not descriptors:
        return
    tasks = [{"descriptor": documents.dump(descriptor).decode()} for descriptor in descriptors]
    with bar(len(tasks), describe, "shard") as shown:
        for answer in run_pool(tasks, worker, (job,), pool=pool, size=size, calls_per_actor=shards_per_actor):
            shown.update(1)
            shown.set_postfix_str(str(answer["done"]), refresh=False)
