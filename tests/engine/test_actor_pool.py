"""A pool of actors gives every task one answer, and a worker's error back as what it was."""

from __future__ import annotations

from typing import Any

import pytest

from fct_ray.engine.actor_pool import PoolSettings, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, IncompleteRunError
from tests.doubler import Doubler


def _answers(tasks: list[dict[str, int]], size: ClusterSize) -> list[dict[str, Any]]:
    return list(run_pool(tasks, Doubler, (13,), pool=PoolSettings(), size=size))


def test_every_task_has_one_answer_of_an_actor_that_collects_garbage_again(cluster: ClusterSize) -> None:
    answers = _answers([{"number": number} for number in range(5)], cluster)
    assert sorted((answer["number"], answer["twice"]) for answer in answers) == [(n, 2 * n) for n in range(5)]
    assert all(answer["collects"] for answer in answers)


def test_an_error_of_ours_comes_back_as_it_was_raised(cluster: ClusterSize) -> None:
    with pytest.raises(DataError, match=r"^the number is 13; want another$"):
        _answers([{"number": 13}], cluster)


def test_an_error_of_foreign_code_says_what_where_and_what_to_do(cluster: ClusterSize) -> None:
    with pytest.raises(IncompleteRunError, match=r"KeyError: 'number' \(.*doubler\.py:\d+\).*run again$"):
        _answers([{"digit": 1}], cluster)
