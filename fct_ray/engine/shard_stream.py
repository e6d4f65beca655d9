"""Shards through a pool of actors: one task per shard, one receipt per shard.

    descriptors --> [actor: read -> compute -> write + index -> receipt] --> progress

Vectors never pass through the object store, so its size and spilling do not matter here. The ledger is read from storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fct_ray.engine.actor_pool import PoolSettings, Worker, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.progress import bar
from fct_ray.storage import documents


class Descriptor(Protocol):
    """What a worker is told about one shard: a value that `documents` can write as JSON."""

    @property
    def shard(self) -> int:
        """The shard's number in its version."""


def stream_shards(
    descriptors: Sequence[Descriptor],
    worker: Callable[..., Worker],
    job: object,
    *,
    pool: PoolSettings,
    size: ClusterSize,
    describe: str,
    shards_per_actor: int = 1,
) -> None:
    """Run `worker(job)` actors over all descriptors, which they get as JSON; each leaves its receipt in the ledger.

    An actor works on up to `shards_per_actor` shards at once, each in a thread of its own. When a shard fails, the
    others are finished first.

    Raises:
        FctRayError: what workers raised, naming the shards. Finished shards stay finished: their receipts are durable.
    """
    if not descriptors:
        return
    tasks = [{"descriptor": documents.dump(descriptor).decode()} for descriptor in descriptors]
    names = [f"shard {descriptor.shard}" for descriptor in descriptors]
    answers = run_pool(tasks, worker, (job,), names=names, pool=pool, size=size, calls_per_actor=shards_per_actor)
    with bar(len(tasks), describe, "shard") as shown:
        for answer in answers:
            shown.update(1)
            shown.set_postfix_str(str(answer["done"]), refresh=False)
