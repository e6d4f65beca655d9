"""A pool of Ray Data actors over a list of tasks: each row in is one task, each row out is its answer or its error.

Owns: the pool's size, and getting errors of our own tree back unchanged: an actor returns them as values, for Ray Data wraps
and rewords what its actors raise. A task is one block (`from_items` with as many blocks as tasks). Workers need not know Ray.
"""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray.data

from fct_ray import errors
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.worker_errors import worker_error
from fct_ray.errors import FctRayError, IncompleteRunError
from fct_ray.settings import CheckedSettings, Count, Positive, PositiveOrZero

Worker = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A task (a row of `run_pool`'s tasks) in, its answer (values that Arrow knows; not named "error" or "text") out."""
ERROR, TEXT = "error", "text"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolSettings(CheckedSettings):
    """The actors that shards stream through."""

    min_actors: Count | None = None
    """Smallest pool. None: one per `cpus_per_actor` of the cluster as it stands (at least 1)."""
    max_actors: Count | None = None
    """Largest pool; above what the cluster has, its autoscaler is asked for more. None: as `min_actors`."""
    cpus_per_actor: Positive = 1
    """Logical CPUs that each actor holds; also its number of compute threads (rounded down, at least 1)."""
    gpus_per_actor: PositiveOrZero | None = None
    """GPUs that each actor holds. None: 1 if the cluster has any, else 0."""
    shards_per_actor: Count | None = None
    """Shards that an actor works on at a time when it transforms: one is computed, others are read and written meanwhile.
    Each takes its vectors' memory. None: 2 on S3, 1 on a disk; more may pay with fast GPUs and slow storage."""

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


def gpus_per_actor(pool: PoolSettings, size: ClusterSize) -> float:
    """GPUs that each actor of this pool holds on this cluster."""
    return pool.gpus_per_actor if pool.gpus_per_actor is not None else float(size.num_gpus > 0)


def pool_strategy(
    pool: PoolSettings, size: ClusterSize, num_tasks: int, calls_per_actor: int = 1
) -> tuple[ray.data.ActorPoolStrategy, float]:
    """The actor pool for this cluster, never larger than the work, and the GPUs per actor."""
    gpus = gpus_per_actor(pool, size)
    fitting = size.num_gpus / gpus if gpus else size.num_cpus / max(pool.cpus_per_actor, 1e-9)
    smallest = max(1, min(pool.min_actors or int(fitting), num_tasks))
    largest = max(smallest, min(pool.max_actors or smallest, num_tasks))
    strategy = ray.data.ActorPoolStrategy(
        min_size=smallest,
        max_size=largest,
        initial_size=smallest,
        max_concurrent_calls_per_actor=calls_per_actor,
        enable_true_multi_threading=calls_per_actor > 1,
    )
    return strategy, gpus


class PoolActor:
    """Ray Data's actor around a worker: batches of one row become tasks, answers and errors become rows.

    Errors of our own tree keep their type; any other (of a user's encoder, say) becomes an IncompleteRunError.
    """

    def __init__(self, worker_and_arguments: ray.ObjectRef[Any]) -> None:
        """Get the worker's class and arguments, make the worker.

        Getting them imports torch. That makes no garbage, and looking for some would take 15 % of the time.
        """
        gc.disable()
        worker, arguments = ray.get(worker_and_arguments)
        gc.freeze()
        gc.enable()
        self.worker = worker(*arguments)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One task in, one row out: what the worker answered, or the error that it raised."""
        try:
            answer = self.worker({name: column[0] for name, column in batch.items()})
        except FctRayError as error:
            return {ERROR: [type(error).__name__], TEXT: [str(error)]}
        except Exception as error:  # the actor's border: what Ray makes of it says nothing to a user
            logger.exception("a worker failed")
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"a worker failed: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            kept = "finished shards are kept: repair it, run again"
            return {ERROR: [IncompleteRunError.__name__], TEXT: [f"{text}; {kept}"]}
        return {**{name: [value] for name, value in answer.items()}, ERROR: [""], TEXT: [""]}


def run_pool(
    tasks: Sequence[Mapping[str, Any]],
    worker: Callable[..., Worker],
    arguments: tuple[Any, ...],
    *,
    pool: PoolSettings,
    size: ClusterSize,
    calls_per_actor: int = 1,
) -> Iterator[dict[str, Any]]:
    """Give each task to one of the `worker(*arguments)` actors; yield its answers as they come, in any order.

    An actor gets up to `calls_per_actor` tasks at a time, each in a thread of its own.

    Raises:
        FctRayError: what a worker raised, unchanged; anything else as IncompleteRunError.
    """
    quiet_ray_data()
    strategy, gpus = pool_strategy(pool, size, len(tasks), calls_per_actor)
    answers = ray.data.from_items(list(tasks), override_num_blocks=len(tasks)).map_batches(
        PoolActor,
        fn_constructor_args=(ray.put((worker, arguments)),),
        batch_size=1,
        num_cpus=pool.cpus_per_actor if not gpus else None,
        num_gpus=gpus or None,
        compute=strategy,
    )
    try:
        for row in answers.iter_rows():
            if row[ERROR]:
                raise getattr(errors, str(row[ERROR]))(str(row[TEXT]))
            yield row
    except FctRayError:
        raise
    except Exception as error:
        raise worker_error(error) from error
