"""Shards through a pool of actors: one Ray Data row per shard, one receipt per shard.

    descriptors --from_items--> [actor: read -> compute -> write + index -> receipt] --iter_rows--> progress

Owns: the actor pool, its size, progress, and turning what a worker raised back into our own error. Vectors never
pass through the object store, so its size and spilling do not matter here. The ledger is read from storage.
A shard is one block is one task: `from_items` with as many blocks as shards (`read_parquet` would coalesce files).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
import ray.exceptions

from fct_ray import errors
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.progress import bar
from fct_ray.errors import FctRayError, IncompleteRunError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """The actors that shards stream through."""

    min_actors: int | None = None
    """Smallest pool. None: one per `cpus_per_actor` of the cluster as it stands (at least 1)."""
    max_actors: int | None = None
    """Largest pool; above what the cluster has, its autoscaler is asked for more. None: as `min_actors`."""
    cpus_per_actor: float = 1
    """Logical CPUs that each actor holds; also its number of compute threads (rounded down, at least 1)."""
    gpus_per_actor: float | None = None
    """GPUs that each actor holds. None: 1 if the cluster has any, else 0."""

    @property
    def threads(self) -> int:
        """Compute threads of one actor; part of a run's identity, since it can change the last bits of a sum."""
        return max(1, int(self.cpus_per_actor))


def quiet_ray_data() -> None:
    """Our own progress bars instead of Ray Data's; a lost worker is retried, a bad shard is not."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def pool_strategy(pool: PoolSettings, size: ClusterSize, num_tasks: int) -> tuple[ray.data.ActorPoolStrategy, float]:
    """The actor pool for this cluster, never larger than the work, and the GPUs per actor."""
    gpus = pool.gpus_per_actor if pool.gpus_per_actor is not None else float(size.num_gpus > 0)
    fitting = size.num_gpus / gpus if gpus else size.num_cpus / max(pool.cpus_per_actor, 1e-9)
    smallest = max(1, min(pool.min_actors or int(fitting), num_tasks))
    largest = max(smallest, min(pool.max_actors or smallest, num_tasks))
    return ray.data.ActorPoolStrategy(min_size=smallest, max_size=largest, initial_size=smallest), gpus


def stream_shards(
    descriptors: Sequence[str],
    worker: type[Any],
    job: object,
    *,
    pool: PoolSettings,
    size: ClusterSize,
    describe: str,
) -> None:
    """Run `worker(job)` actors over all descriptors; each leaves its receipt in the ledger.

    Raises:
        FctRayError: what a worker raised, naming the shard. Finished shards stay finished: their receipts are durable.
    """
    if not descriptors:
        return
    quiet_ray_data()
    strategy, gpus = pool_strategy(pool, size, len(descriptors))
    rows = [{"descriptor": text} for text in descriptors]
    finished = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        worker,
        fn_constructor_args=(job,),
        batch_size=1,
        num_cpus=pool.cpus_per_actor if not gpus else None,
        num_gpus=gpus or None,
        compute=strategy,
    )
    try:
        with bar(len(rows), describe, "shard") as shown:
            for row in finished.iter_rows():
                if row["error"]:
                    raise getattr(errors, str(row["error"]))(str(row["text"]))
                shown.update(1)
                shown.set_postfix_str(str(row["done"]), refresh=False)
    except FctRayError:
        raise
    except Exception as error:
        raise worker_error(error) from error


def worker_error(error: BaseException) -> FctRayError:
    """The error of our own tree inside what Ray raised; anything else as IncompleteRunError with its last words."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)
        if isinstance(cause, FctRayError):
            return cause
        if isinstance(seen, FctRayError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    last_words = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return IncompleteRunError(
        f"a worker failed: {last_words}; finished shards are kept, run the same command to resume"
    )
