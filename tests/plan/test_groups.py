"""Worst group and negative flips, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.plan.groups import negative_flips, worst_group


def test_the_worst_group_is_the_one_that_loses_most() -> None:
    groups = np.repeat([3, 5, 9], [20, 20, 5])
    bar = np.full(45, 0.5)
    candidate = np.concatenate([np.full(20, 0.7), np.full(20, 0.4), np.zeros(5)])
    worst = worst_group(candidate, bar, groups)
    assert worst == {"group": 5.0, "candidate": pytest.approx(0.4), "bar": pytest.approx(0.5)}
    assert worst_group(candidate, bar, groups, min_queries=30) is None


def test_negative_flips_are_right_before_and_wrong_after() -> None:
    assert negative_flips([True, True, False, False], [False, True, True, False]) == 0.25
    assert negative_flips([], []) == 0.0
