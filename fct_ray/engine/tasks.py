"""Many small Ray tasks with a bounded number in flight, in completion order, with a progress bar.

Owns: submission, back-pressure, unwrapping of errors. For work whose results are small enough to come back to the
driver (sampled rows, hashes); whole shards go through `shard_stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from fct_ray.engine.cluster import cluster_size
from fct_ray.engine.progress import bar
from fct_ray.engine.worker_errors import worker_error

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
IN_FLIGHT_PER_CPU = 2


def map_tasks(
    function: Callable[..., ResultT], items: Sequence[ItemT], *shared: Any, describe: str, num_cpus: float = 1
) -> Iterator[tuple[int, ResultT]]:
    """Yield (position, function(item, *shared)) for every item, as they finish; `shared` is sent once.

    Raises:
        FctRayError: what a task raised.
    """
    remote = ray.remote(num_cpus=num_cpus, max_retries=3)(function)
    references = [ray.put(value) for value in shared]
    limit = IN_FLIGHT_PER_CPU * max(1, cluster_size().num_cpus)
    waiting: dict[Any, int] = {}
    with bar(len(items), describe, "shard") as shown:
        for position, item in enumerate(items):
            waiting[remote.remote(item, *references)] = position
            while len(waiting) >= limit:
                yield _take_one(waiting, shown)
        while waiting:
            yield _take_one(waiting, shown)


def run_task(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Run one task on a node of the cluster and wait for it. Raises FctRayError: what the task raised."""
    try:
        result: ResultT = ray.get(ray.remote(max_retries=3)(function).remote(*arguments))
    except Exception as error:
        raise worker_error(error) from error
    return result


def _take_one(waiting: dict[Any, int], shown: Any) -> tuple[int, Any]:
    (done,), _ = ray.wait(list(waiting), num_returns=1)
    try:
        result = ray.get(done)
    except Exception as error:
        raise worker_error(error) from error
    shown.update(1)
    return waiting.pop(done), result
