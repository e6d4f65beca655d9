"""How many actors and tasks are asked for."""

from __future__ import annotations

import pytest

from fct_ray.plan.pool_size import pool_size, tasks_in_flight


@pytest.mark.parametrize(
    ("num_tasks", "num_fitting", "min_actors", "max_actors", "wanted"),
    [
        (100, 8, None, None, (8, 8)),  # as many as fit
        (100, 8, None, 3, (3, 3)),  # never more than the user wants, though more would fit
        (100, 8, None, 20, (8, 20)),  # the autoscaler is asked for more
        (100, 0, None, None, (1, 1)),  # a cluster of no workers yet
        (100, 0, None, 20, (1, 20)),
        (100, 0, 5, None, (5, 5)),  # what does not fit yet
        (100, 8, 2, 4, (2, 4)),
        (3, 8, None, None, (3, 3)),  # no more than there is work
        (3, 8, 5, 20, (3, 3)),
        (100, 2.7, None, None, (2, 2)),  # 8 CPUs, 3 for each actor
    ],
)
def test_a_pool_is_as_large_as_cluster_settings_and_work_say(
    num_tasks: int, num_fitting: float, min_actors: int | None, max_actors: int | None, wanted: tuple[int, int]
) -> None:
    size = pool_size(num_tasks=num_tasks, num_fitting=num_fitting, min_actors=min_actors, max_actors=max_actors)
    assert (size.smallest, size.largest) == wanted


def test_enough_tasks_wait_for_a_cluster_of_no_workers_to_grow() -> None:
    assert [tasks_in_flight(num_cpus) for num_cpus in (0, 2, 16, 100)] == [32, 32, 32, 200]
