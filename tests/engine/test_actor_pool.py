"""A pool of actors gives every task one answer, a worker's error back as what it was, and an end to every task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray

from fct_ray.engine.actor_pool import PoolSettings, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, FctRayError, IncompleteRunError, SettingsError
from tests.doubler import Doubler, Ender

HOW_TO_END = ["", "exit 0", "", "signal 11", "", ""]  # each that ends costs three processes


ONE = PoolSettings(min_actors=1, max_actors=1)


def _answers(tasks: list[dict[str, int]], size: ClusterSize, pool: PoolSettings = ONE) -> list[dict[str, Any]]:
    names = [f"shard {number}" for number in range(len(tasks))]
    return list(run_pool(tasks, Doubler, (13,), names=names, pool=pool, size=size))


def _end(
    how: list[str], marks: Path, size: ClusterSize, *, at_start: bool = False, calls: int = 1
) -> tuple[list[int], FctRayError]:
    """The numbers answered by `Ender`s in a pool of one actor, and the error at the end."""
    tasks: list[dict[str, Any]] = [{"number": number, "how": way} for number, way in enumerate(how)]
    answered: list[int] = []
    names = [f"shard {number}" for number in range(len(how))]
    with pytest.raises(FctRayError) as raised:
        answered.extend(
            answer["number"]
            for answer in run_pool(
                tasks, Ender, (str(marks), at_start), names=names, pool=ONE, size=size, calls_per_actor=calls
            )
        )
    return sorted(answered), raised.value


def test_every_task_has_one_answer_of_an_actor_that_collects_garbage_again(cluster: ClusterSize) -> None:
    answers = _answers([{"number": number} for number in range(5)], cluster, PoolSettings())  # one actor per CPU
    assert sorted((answer["number"], answer["twice"]) for answer in answers) == [(n, 2 * n) for n in range(5)]
    assert all(answer["collects"] for answer in answers)


def test_a_worker_knows_its_node_and_its_threads_sleep_while_they_wait(cluster: ClusterSize) -> None:
    (answer,) = _answers([{"number": 1}], cluster)
    assert answer["node"] == ray.get_runtime_context().get_node_id()
    assert answer["waits"] == "PASSIVE"


def test_an_error_of_ours_comes_back_as_it_was_raised(cluster: ClusterSize) -> None:
    with pytest.raises(DataError, match=r"^the number is 13; want another$"):
        _answers([{"number": 13}], cluster)


def test_an_error_of_foreign_code_says_what_and_where(cluster: ClusterSize) -> None:
    with pytest.raises(IncompleteRunError, match=r"KeyError: 'number' \(.*doubler\.py:\d+\)$"):
        _answers([{"digit": 1}], cluster)


def test_a_task_that_fails_is_named_after_all_others_are_finished(cluster: ClusterSize) -> None:
    with pytest.raises(
        DataError, match=r"^1 of 5 failed. shard 0: the number is 13; want another\n4 of 5 are finished"
    ):
        _answers([{"number": number} for number in (13, 1, 2, 3, 4)], cluster)


@pytest.mark.journey
def test_tasks_that_end_their_worker_are_given_up_and_all_others_are_finished(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    """Seen: an encoder that exited with 0 on one of four shards; after four minutes the job still ran, without a word."""
    answered, error = _end(HOW_TO_END, tmp_path / "marks", cluster)
    assert answered == [0, 2, 4, 5]
    assert isinstance(error, IncompleteRunError)
    text = str(error)
    assert text.startswith("2 of 6 failed. shard 1: it ended its worker process 3 times (exit code 0)"), text
    assert "shard 3: it ended its worker process 3 times (killed by signal 11, SIGSEGV)" in text
    assert text.endswith("4 of 6 are finished, and what they stored is kept: repair it, run again")
    tries = Counter(int(line) for line in (tmp_path / "marks").read_text().split())
    assert {number: tries[number] for number in (1, 3)} == {1: 3, 3: 3}


@pytest.mark.journey
def test_a_task_beside_one_that_ends_their_worker_is_finished(cluster: ClusterSize, tmp_path: Path) -> None:
    answered, error = _end(["leave 3", "", "", ""], tmp_path / "marks", cluster, calls=2)
    assert answered == [1, 2, 3]
    assert "shard 0: it ended its worker process 3 times (exit code 3)" in str(error)


@pytest.mark.slow
def test_a_worker_that_cannot_be_made_ends_the_pool_early(cluster: ClusterSize, tmp_path: Path) -> None:
    answered, error = _end([""] * 12, tmp_path / "marks", cluster, at_start=True)
    assert answered == []
    assert "4 of 12 failed, so the run was stopped early" in str(error)
    assert "3 times (exit code 7)" in str(error)


@pytest.mark.parametrize("impossible", [{"max_actors": 0}, {"min_actors": 3, "max_actors": 2}, {"cpus_per_actor": 0}])
def test_pools_of_impossible_sizes_are_refused(impossible: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=max(impossible).replace("_", "[_-]")):
        PoolSettings(**impossible)
