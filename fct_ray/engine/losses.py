"""How often each task of a pool was begun, counted outside the actors that work on it.

A module of its own that imports next to nothing, since an actor's process imports the module of its class; and one actor
for all pools of a driver, since each new process takes a second.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Losses:
    """An actor that knows how often each task was begun: again means that its worker or its answer was lost.

    A task is not ticked off when it answers: a process may end just after (a crash in another of its threads), and its
    answer with it.
    """

    def __init__(self) -> None:
        self._begun: dict[str, Counter[int]] = {}

    def begin(self, pool: str, position: int) -> int:
        """How often the task was begun before."""
        begun = self._begun.setdefault(pool, Counter())
        begun[position] += 1
        return begun[position] - 1

    def forget(self, pool: str) -> None:
        """The pool has ended."""
        self._begun.pop(pool, None)


_of_driver: dict[tuple[str, str], Any] = {}


def driver_losses() -> Any:
    """The handle of this driver's `Losses` actor, which lies on the driver's node; it ends with the driver."""
    context = ray.get_runtime_context()
    driver = context.get_node_id(), context.get_job_id()
    if driver not in _of_driver:
        here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=True)
        _of_driver.clear()  # those of clusters that this process has left
        _of_driver[driver] = ray.remote(Losses).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        ).remote()  # fmt: skip
    return _of_driver[driver]
