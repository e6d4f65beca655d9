"""Many small Ray tasks with a bounded number in flight, in completion order, with progress.

Owns: submission, back-pressure, and trying again what was lost with its worker (Ray's own retries are off: they have no
bound where memory is short, and no attempt would be told from another). For work whose results are small enough to come
back to the driver (sampled rows, hashes); whole shards go through `shard_stream`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
import ray.exceptions

from fct_ray.engine.border import Answer, Failure, outcome_of, prepare_process, worker_error
from fct_ray.engine.cluster import cluster_size
from fct_ray.engine.isolated import run_isolated
from fct_ray.engine.progress import bar
from fct_ray.plan.failures import MOST_LOSSES, TaskFailure, failed_together, lost_worker, most_failures
from fct_ray.plan.pool_size import tasks_in_flight

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
LOOK_EVERY_S = 5.0
"""How often the size of the cluster is read again: it may have grown."""
LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.LocalRayletDiedError,
)
"""What Ray raises where a task's worker, its node, or its result is gone."""
logger = logging.getLogger(__name__)


def map_tasks(
    function: Callable[..., ResultT],
    items: Sequence[ItemT],
    *shared: Any,
    describe: str,
    name: Callable[[ItemT], str] | None = None,
    num_cpus: float = 1,
) -> Iterator[tuple[int, ResultT]]:
    """Yield (position, function(item, *shared)) for every item, as they finish; `shared` is sent once.

    When an item fails, the others are finished first (see `plan/failures`). `name` is what users call an item.

    Raises:
        FctRayError: at the end, what tasks raised, with the type of the first; it names every failed item. An item that
            ended its worker process, or whose worker was lost too often, is an IncompleteRunError.
    """
    failures: list[TaskFailure] = []
    num_finished = 0
    with bar(len(items), describe, "shard") as shown:
        for position, outcome in _outcomes(function, items, shared, num_cpus):
            shown.update(1)
            if isinstance(outcome, Answer):
                num_finished += 1
                yield position, outcome.value
                continue
            named = f"{describe}, number {position + 1}" if name is None else name(items[position])
            failures.append(TaskFailure(position=position, name=named, error=outcome.error))
            if len(failures) > most_failures(len(items)):
                break
    if failures:
        raise failed_together(failures, num_tasks=len(items), num_finished=num_finished)


def run_task(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Run one task on a node of the cluster and wait for it.

    Raises:
        FctRayError: what the task raised; IncompleteRunError if it ended its worker process again and again.
    """
    ((_, outcome),) = _outcomes(_spread, [arguments], [function], 1)
    if isinstance(outcome, Failure):
        raise outcome.error
    result: ResultT = outcome.value
    return result


def _spread(arguments: tuple[Any, ...], function: Callable[..., ResultT]) -> ResultT:
    return function(*arguments)


def _outcomes(
    function: Callable[..., ResultT], items: Sequence[Any], shared: Sequence[Any], num_cpus: float
) -> Iterator[tuple[int, Answer[ResultT] | Failure]]:
    """The outcome of every item; what was lost with its worker is tried again after all others were submitted."""
    remote = ray.remote(num_cpus=num_cpus, max_retries=0)(_run)
    common = [ray.put(function), *(ray.put(value) for value in shared)]
    to_do = deque((position, 0) for position in range(len(items)))
    running: dict[Any, tuple[int, int]] = {}
    most, looked_s = tasks_in_flight(cluster_size().num_cpus), time.monotonic()
    try:
        while to_do or running:
            if time.monotonic() - looked_s > LOOK_EVERY_S:
                most, looked_s = tasks_in_flight(cluster_size().num_cpus), time.monotonic()
            while to_do and len(running) < most:
                position, losses = to_do.popleft()
                running[remote.remote(common, [ray.put(items[position])], losses > 0)] = position, losses
            done, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_EVERY_S)
            for reference in done:
                position, losses = running.pop(reference)
                outcome = _taken(reference)
                if outcome is None and losses + 1 < MOST_LOSSES:
                    to_do.append((position, losses + 1))
                else:
                    yield position, outcome or Failure(lost_worker(losses + 1))
    finally:
        for reference in running:  # nobody waits for them any more
            ray.cancel(reference)


def _taken(reference: Any) -> Answer[Any] | Failure | None:
    """A task's outcome, or None if it was lost."""
    try:
        outcome: Answer[Any] | Failure = ray.get(reference)
    except LOST as error:
        logger.debug("a task was lost and is tried again: %s", error)
        return None
    except ray.exceptions.RayError as error:
        return Failure(worker_error(error))
    return outcome


def _run(common: list[Any], item: list[Any], lost_before: bool) -> Answer[Any] | Failure:
    """What runs in Ray's worker; what it gets is unpickled only after the process is prepared."""
    prepare_process()
    function, *shared = ray.get(common)
    arguments = [*ray.get(item), *shared]
    return run_isolated(function, *arguments) if lost_before else outcome_of(function, *arguments)
