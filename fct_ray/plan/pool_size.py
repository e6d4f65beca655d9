"""How many workers and tasks are asked for at once.

Owns: the arithmetic from what a cluster has and what a user wants to a number of actors, or of tasks in flight. Asks no
cluster itself. Units: actors, tasks, logical CPUs and GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

TASKS_PER_CPU = 2
"""Tasks submitted per CPU: one runs, the next one waits for it."""
FEWEST_TASKS_IN_FLIGHT = 32
"""An autoscaler adds nodes for tasks that wait. A cluster of zero workers would stay small if only two tasks waited."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSize:
    """A pool starts with `smallest` actors and may grow to `largest`."""

    smallest: int
    largest: int


def pool_size(
    *, num_tasks: int, num_fitting: float, min_actors: int | None = None, max_actors: int | None = None
) -> PoolSize:
    """The size of a pool of actors for `num_tasks` tasks on a cluster where `num_fitting` actors fit now.

    Without settings it is as many as fit. `min_actors` asks for so many even if they do not fit yet, `max_actors`
    is never exceeded, and no pool has more actors than tasks.
    """
    most = num_tasks if max_actors is None else min(max_actors, num_tasks)
    smallest = int(num_fitting) if min_actors is None else min_actors
    smallest = max(1, min(smallest, most))
    largest = smallest if max_actors is None else max(smallest, most)
    return PoolSize(smallest=smallest, largest=largest)


def tasks_in_flight(num_cpus: int) -> int:
    """How many tasks are submitted at once to a cluster that has `num_cpus` CPUs now."""
    return max(FEWEST_TASKS_IN_FLIGHT, TASKS_PER_CPU * num_cpus)
