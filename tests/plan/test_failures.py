"""What is said, and when a run stops, where tasks fail."""

from __future__ import annotations

import pytest

from fct_ray.errors import DataError, IncompleteRunError, SourceError
from fct_ray.plan.failures import TaskFailure, ended_worker, failed_together, lost_worker, most_failures


def _failure(position: int, text: str = "bad") -> TaskFailure:
    return TaskFailure(position=position, name=f"shard {position}", error=DataError(text))


@pytest.mark.parametrize(("num_tasks", "most"), [(1, 3), (100, 3), (399, 3), (400, 4), (10_000, 100)])
def test_a_run_goes_on_with_three_failures_or_one_in_a_hundred(num_tasks: int, most: int) -> None:
    assert most_failures(num_tasks) == most


def test_the_error_of_a_task_that_was_alone_is_unchanged() -> None:
    failure = _failure(0)
    assert failed_together([failure], num_tasks=1, num_finished=0) is failure.error


def test_several_failures_have_the_type_of_the_first_and_all_names() -> None:
    other = TaskFailure(position=1, name="shard 1", error=SourceError("gone"))
    error = failed_together([_failure(7), other, _failure(3)], num_tasks=100, num_finished=97)
    assert type(error) is SourceError
    assert str(error) == (
        "3 of 100 failed. shard 1: gone\nshard 3, shard 7: bad\n"
        "97 of 100 are finished, and what they stored is kept: repair it, run again"
    )


def test_of_many_different_texts_five_are_said_and_all_names() -> None:
    failures = [_failure(number, f"bad {number}") for number in range(8)]
    text = str(failed_together(failures, num_tasks=800, num_finished=792))
    assert text.count("bad") == 5
    assert "also shard 5, shard 6, shard 7" in text


def test_a_run_that_was_stopped_early_says_so() -> None:
    failures = [_failure(number) for number in range(4)]
    assert "so the run was stopped early" in str(failed_together(failures, num_tasks=50, num_finished=6))


@pytest.mark.parametrize(
    ("exit_codes", "way"),
    [
        ((0, 0), "(exit code 0)"),
        ((-9, -9), "(killed by signal 9, SIGKILL: most likely out of memory)"),
        ((137,), "(exit code 137, as when killed by signal 9, SIGKILL: most likely out of memory)"),
        ((-11, 1), "(killed by signal 11, SIGSEGV, then exit code 1)"),
        ((-70,), "(killed by signal 70)"),
    ],
)
def test_the_way_a_worker_ended_is_said(exit_codes: tuple[int, ...], way: str) -> None:
    error = ended_worker(exit_codes)
    assert isinstance(error, IncompleteRunError)
    assert f"it ended its worker process {1 + len(exit_codes)} times {way} and was given up" in str(error)


def test_lack_of_memory_has_its_own_advice() -> None:
    assert "more memory" in str(ended_worker([-9, -9]))
    assert "--cluster.verbose" in str(ended_worker([-11, -11]))
    assert "memory" in str(lost_worker(10))
