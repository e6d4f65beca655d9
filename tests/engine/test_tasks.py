"""Tasks give every item one result, and an end to every item."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.tasks import map_tasks, run_task
from fct_ray.errors import DataError, FctRayError, IncompleteRunError
from tests.conftest import ROOT
from tests.doubler import end_or_answer

GROWING_CLUSTER = """
    import time
    from concurrent.futures import ThreadPoolExecutor
    import ray
    from ray.cluster_utils import Cluster
    from fct_ray.engine.cluster import ClusterSettings, connected
    from fct_ray.engine import tasks
    from fct_ray.plan import pool_size
    from fct_ray.workflows.verify import VerifySettings, verify_store
    from tests.engine.meeting import Room, meet

    tasks.LOOK_EVERY_S, pool_size.FEWEST_TASKS_IN_FLIGHT = 0.5, 2
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        with connected(ClusterSettings(address=cluster.address)):
            room = ray.remote(Room).options(num_cpus=0, name="room", namespace="meeting").remote()
            with ThreadPoolExecutor() as threads:
                met = threads.submit(lambda: dict(tasks.map_tasks(meet, list(range(5)), 5, describe="meet")))
                time.sleep(1.0)
                cluster.add_node(num_cpus=5)
                print("met", len(met.result(timeout=120)))
            used = verify_store(VerifySettings(store="tests/storage/written_before/format_1")).usage
            print("nodes", round(used.node_s / used.wall_s))
    finally:
        cluster.shutdown()
"""


def _results(items: list[str]) -> tuple[dict[int, str], FctRayError]:
    results: dict[int, str] = {}
    with pytest.raises(FctRayError) as raised:
        results.update(map_tasks(end_or_answer, items, "!", describe="try", name=lambda item: f"item {item!r}"))
    return results, raised.value


def test_every_item_has_one_result(cluster: ClusterSize) -> None:
    results = dict(map_tasks(end_or_answer, ["a", "b", "c"], "!", describe="try"))
    assert results == {0: "a!", 1: "b!", 2: "c!"}


def test_an_error_is_raised_after_all_others_are_finished_with_the_type_of_the_first(cluster: ClusterSize) -> None:
    results, error = _results(["bad 1", "a", "bad 2", "b"])
    assert results == {1: "a!", 3: "b!"}
    assert isinstance(error, DataError)
    assert str(error).startswith("2 of 4 failed. item 'bad 1': bad 1; want good\nitem 'bad 2': bad 2; want good")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit 0", "exit code 0"),
        ("leave 0", "exit code 0"),
        ("signal 9", "killed by signal 9, SIGKILL: most likely out"),
    ],
)
def test_a_task_that_ends_its_worker_is_given_up_and_named(how: str, said: str, cluster: ClusterSize) -> None:
    with pytest.raises(IncompleteRunError, match=r"^it ended its worker process 3 times") as raised:
        run_task(end_or_answer, how, "!")
    assert said in str(raised.value)


def test_other_items_are_finished_when_one_ends_its_worker(cluster: ClusterSize) -> None:
    results, error = _results(["a", "exit 137", "b", "c"])
    assert results == {0: "a!", 2: "b!", 3: "c!"}
    assert isinstance(error, IncompleteRunError)
    assert str(error).startswith("1 of 4 failed. item 'exit 137': it ended its worker process 3 times (exit code 137")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_tasks_use_the_nodes_that_join_while_they_run() -> None:
    """5 tasks that wait until all run at once, on a cluster of no CPUs that a node of 5 joins: two are submitted at first."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GROWING_CLUSTER)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert "met 5" in run.stdout, run.stderr[-3000:]
    assert "nodes 2" in run.stdout, "checking a store counts the time of all nodes"
