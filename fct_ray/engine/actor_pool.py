"""A pool of Ray Data actors over a list of tasks: each row in is one task, each row out is its answer or its error.

    begin(task): how often was it begun before?   0          a call of the actor's worker
                                                  1 .. 9     a call in a process of its own, which tells how it ends
                                                  10         an error

Ray Data restarts an actor whose process ended, and gives it the same task again, without a bound (`max_restarts` and
`max_task_retries` are -1; with a bound it fails the whole stream instead). The count of losses is therefore kept outside
the actors (see `losses`), and a task that was lost before runs where it can no longer end the actor.

Owns: the pool, and errors as rows (see `border`). A task is one block (`from_items` with as many blocks as tasks).
Workers need not know Ray.
"""

from __future__ import annotations

import gc
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray.data

from fct_ray.engine.border import Answer, Failure, error_named, outcome_of, prepare_process, worker_error
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.isolated import run_isolated
from fct_ray.engine.losses import driver_losses
from fct_ray.errors import FctRayError, SettingsError
from fct_ray.plan.failures import MOST_LOSSES, TaskFailure, failed_together, lost_worker, most_failures
from fct_ray.plan.pool_size import pool_size
from fct_ray.settings import CheckedSettings, Count, Positive, PositiveOrZero

Worker = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A task (a row of `run_pool`'s tasks) in, its answer (values that Arrow knows) out; no name begins with "_"."""
POSITION, ERROR, TEXT = "_position", "_error", "_text"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolSettings(CheckedSettings):
    """The actors that shards stream through."""

    min_actors: Count | None = None
    """Smallest pool. None: one per `cpus_per_actor` of the cluster as it stands (at least 1)."""
    max_actors: Count | None = None
    """Largest pool, also on a larger cluster; above what the cluster has, its autoscaler is asked for more. None: as the
    smallest pool."""
    cpus_per_actor: Positive = 1
    """Logical CPUs that each actor holds; also its number of compute threads (rounded down, at least 1)."""
    gpus_per_actor: PositiveOrZero | None = None
    """GPUs that each actor holds. None: 1 if the cluster has any, else 0."""
    shards_per_actor: Count | None = None
    """Shards that an actor works on at once when it transforms: one is computed, others are read and written meanwhile.
    Each takes its vectors' memory. None: 2 on S3, 1 on a disk; more may pay with fast GPUs and slow storage."""

    def __post_init__(self) -> None:
        """Raises SettingsError for a number that cannot work, or for a largest pool below the smallest."""
        super().__post_init__()
        if self.min_actors is not None and self.max_actors is not None and self.max_actors < self.min_actors:
            raise SettingsError(
                f"--pool.max-actors is {self.max_actors}, --pool.min-actors {self.min_actors}; want the largest pool to "
                "be at least the smallest"
            )

    @property
    def threads(self) -> int:
        """Compute threads of one actor; part of a run's identity, since it can change the last bits of a sum."""
        return max(1, int(self.cpus_per_actor))


def quiet_ray_data() -> None:
    """Our own progress instead of Ray Data's, answers as they come, and no log lines but errors."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def gpus_per_actor(pool: PoolSettings, size: ClusterSize) -> float:
    """GPUs that each actor of this pool holds on this cluster."""
    return pool.gpus_per_actor if pool.gpus_per_actor is not None else float(size.num_gpus > 0)


class PoolActor:
    """Ray Data's actor around a worker: batches of one row become tasks, answers and errors become rows."""

    def __init__(self, worker_and_arguments: list[ray.ObjectRef[Any]], losses: Any, pool: str) -> None:
        """The worker is made by the first task, so that one that ends its process is counted as well."""
        prepare_process()
        self._worker_and_arguments, self._losses, self._pool = worker_and_arguments[0], losses, pool
        self._made: Answer[Worker] | Failure | None = None
        self._making = threading.Lock()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One task in, one row out: what the worker answered, or the error that it raised."""
        task = {name: column[0] for name, column in batch.items()}
        position = int(task.pop(POSITION))
        outcome = self._outcome(task, ray.get(self._losses.begin.remote(self._pool, position)))
        if isinstance(outcome, Failure):
            error = outcome.error
            return {POSITION: [position], ERROR: [type(error).__name__], TEXT: [str(error)]}
        return {
            **{name: [value] for name, value in outcome.value.items()},
            POSITION: [position],
            ERROR: [""],
            TEXT: [""],
        }

    def _outcome(self, task: Mapping[str, Any], losses: int) -> Answer[Mapping[str, Any]] | Failure:
        if losses >= MOST_LOSSES:
            return Failure(lost_worker(losses))
        if losses:
            worker, arguments = ray.get(self._worker_and_arguments)
            return run_isolated(_make_and_call, worker, arguments, task)
        with self._making:
            if self._made is None:
                self._made = outcome_of(self._make)
        return self._made if isinstance(self._made, Failure) else outcome_of(self._made.value, task)

    def _make(self) -> Worker:
        """Getting the class imports torch. That makes no garbage, and looking for some would take 15 % of the time."""
        gc.disable()
        try:
            worker, arguments = ray.get(self._worker_and_arguments)
            gc.freeze()
        finally:
            gc.enable()
        made: Worker = worker(*arguments)
        return made


def _make_and_call(
    worker: Callable[..., Worker], arguments: tuple[Any, ...], task: Mapping[str, Any]
) -> Mapping[str, Any]:
    return worker(*arguments)(task)


def run_pool(
    tasks: Sequence[Mapping[str, Any]],
    worker: Callable[..., Worker],
    arguments: tuple[Any, ...],
    *,
    names: Sequence[str],
    pool: PoolSettings,
    size: ClusterSize,
    calls_per_actor: int = 1,
) -> Iterator[dict[str, Any]]:
    """Give each task to one of the `worker(*arguments)` actors; yield its answers as they come, in any order.

    An actor gets up to `calls_per_actor` tasks at a time, each in a thread of its own. When a task fails, the others
    are finished first (see `plan/failures`). `names` are what users call the tasks, in order: "shard 3".

    Raises:
        FctRayError: at the end, what tasks raised, with the type of the first; it names every failed task. A task that
            ended its worker process, or whose worker was lost too often, is an IncompleteRunError.
    """
    failures: list[TaskFailure] = []
    num_finished = 0
    for row in _rows(tasks, worker, arguments, pool=pool, size=size, calls_per_actor=calls_per_actor):
        position, kind, text = int(row.pop(POSITION)), str(row.pop(ERROR)), str(row.pop(TEXT))
        if not kind:
            num_finished += 1
            yield row
            continue
        failures.append(TaskFailure(position=position, name=names[position], error=error_named(kind, text)))
        logger.warning("%s failed: %s", names[position], text)
        if len(failures) > most_failures(len(tasks)):
            break
    if failures:
        raise failed_together(failures, num_tasks=len(tasks), num_finished=num_finished)


def _rows(
    tasks: Sequence[Mapping[str, Any]],
    worker: Callable[..., Worker],
    arguments: tuple[Any, ...],
    *,
    pool: PoolSettings,
    size: ClusterSize,
    calls_per_actor: int,
) -> Iterator[dict[str, Any]]:
    quiet_ray_data()
    gpus = gpus_per_actor(pool, size)
    wanted = pool_size(
        num_tasks=len(tasks),
        num_fitting=size.num_gpus / gpus if gpus else size.num_cpus / pool.cpus_per_actor,
        min_actors=pool.min_actors,
        max_actors=pool.max_actors,
    )
    strategy = ray.data.ActorPoolStrategy(
        min_size=wanted.smallest,
        max_size=wanted.largest,
        initial_size=wanted.smallest,
        max_concurrent_calls_per_actor=calls_per_actor,
        enable_true_multi_threading=calls_per_actor > 1,
    )
    losses, name = driver_losses(), uuid.uuid4().hex
    numbered = [{**task, POSITION: position} for position, task in enumerate(tasks)]
    answers = ray.data.from_items(numbered, override_num_blocks=len(numbered)).map_batches(
        PoolActor,
        fn_constructor_args=([ray.put((worker, arguments))], losses, name),
        batch_size=1,
        num_cpus=pool.cpus_per_actor if not gpus else None,
        num_gpus=gpus or None,
        compute=strategy,
    )
    try:
        yield from answers.iter_rows()
    except FctRayError:
        raise
    except Exception as error:
        raise worker_error(error) from error
    finally:
        if ray.is_initialized():
            losses.forget.remote(name)
