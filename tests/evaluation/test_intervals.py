"""Intervals of mean differences: as often right as they say, never sure of what a handful of queries cannot show."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import SettingsError
from fct_ray.evaluation.intervals import paired_interval

TRIALS = 200
NOISE = 2.6 * (0.05 * 0.95 / TRIALS) ** 0.5
"""How much more often than in 5 % of the trials an end may be wrong by chance: 99.5 % of a normal distribution."""


@pytest.mark.parametrize("queries", [100, 400])
@pytest.mark.parametrize(("worse", "better"), [(0.1, 0.1), (0.02, 0.02), (0.1, 0.3)])
def test_each_end_is_wrong_at_most_as_often_as_it_says(queries: int, worse: float, better: float) -> None:
    """Binary differences, as of recall@1: most queries are as right or wrong as before."""
    rng = np.random.default_rng([queries, int(100 * better)])
    too_high = too_low = 0
    for _ in range(TRIALS):
        difference_Q = rng.choice([-1.0, 0.0, 1.0], queries, p=[worse, 1 - worse - better, better])
        found = paired_interval(difference_Q, np.zeros(queries), resamples=1000)
        too_high += found.low > better - worse + 1e-9
        too_low += found.high < better - worse - 1e-9
    assert max(too_high, too_low) / TRIALS <= 0.05 + NOISE


def test_a_rare_loss_that_no_query_showed_is_reckoned_with() -> None:
    """A small gain in every one of 40 queries: 7 % of all queries may still lose everything."""
    rng = np.random.default_rng(0)
    assert paired_interval(rng.choice([0.01, 0.02], 40), np.zeros(40)).low < -0.05
    assert paired_interval(rng.choice([0.2, 0.3], 400), np.zeros(400)).low > 0.2


@pytest.mark.parametrize(("queries", "unseen"), [(5, 0.451), (100, 0.0295)])
def test_equal_differences_are_as_uncertain_as_the_rule_of_three_says(queries: int, unseen: float) -> None:
    found = paired_interval(np.full(queries, 0.25), np.zeros(queries))
    assert found.mean == 0.25
    assert found.low == pytest.approx((1 - unseen) * 0.25 - unseen, abs=1e-3)
    assert found.high == pytest.approx((1 - unseen) * 0.25 + unseen, abs=1e-3)


def test_fewer_than_two_differences_say_nothing() -> None:
    for values in ([], [0.5], [0.5, np.nan]):
        found = paired_interval(values, np.zeros(len(values)))
        assert (found.low, found.high) == (-1, 1)
    assert paired_interval([0.5, 0.5, 0.5], [0, 0, 0], clusters_Q=[7, 7, 7]).low == -1


def test_queries_that_one_side_cannot_judge_are_left_out() -> None:
    candidate_Q, bar_Q = np.array([1, np.nan, 0, 1, 1.0]), np.array([0, 0, 0, np.nan, 1.0])
    assert paired_interval(candidate_Q, bar_Q) == paired_interval([1, 0, 1], [0, 0, 1])
    assert paired_interval(candidate_Q, bar_Q).mean == pytest.approx(1 / 3)


def test_more_ways_compared_make_it_wider_and_a_seed_makes_it_repeatable() -> None:
    rng = np.random.default_rng(5)
    candidate_Q, bar_Q = rng.random(300), rng.random(300)
    one, ten = paired_interval(candidate_Q, bar_Q), paired_interval(candidate_Q, bar_Q, num_compared=10)
    assert ten.low < one.low < one.mean < one.high < ten.high
    assert one == paired_interval(candidate_Q, bar_Q)
    spread = np.std(candidate_Q - bar_Q, ddof=1) / 300**0.5
    assert (one.mean - one.low) / spread == pytest.approx(1.65, abs=0.1)
    assert (ten.mean - ten.low) / spread == pytest.approx(2.59, abs=0.2)


def test_queries_of_one_document_count_as_one() -> None:
    """Each difference ten times, under one name: as uncertain as once, where alone they would seem three times as sure."""
    rng = np.random.default_rng(6)
    difference_C = rng.normal(0.05, 0.3, 200)
    once = paired_interval(difference_C, np.zeros(200))
    together = paired_interval(np.repeat(difference_C, 10), np.zeros(2000), clusters_Q=np.repeat(np.arange(200), 10))
    apart = paired_interval(np.repeat(difference_C, 10), np.zeros(2000))
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.05)
    assert apart.high - apart.low < 0.4 * (once.high - once.low)


def test_a_measure_without_bounds_reckons_with_the_greatest_difference_seen() -> None:
    rng = np.random.default_rng(7)
    found = paired_interval(rng.normal(20, 5, 400), np.zeros(400), largest=None)
    assert 19 < found.low < found.mean < found.high < 21


def test_wrong_input_is_refused() -> None:
    with pytest.raises(SettingsError, match="same queries"):
        paired_interval([1.0], [1.0, 2.0])
    with pytest.raises(SettingsError, match="infinite"):
        paired_interval([np.inf, 1.0], [1.0, 2.0])
    with pytest.raises(SettingsError, match="confidence 1"):
        paired_interval([1.0, 0.0], [1.0, 2.0], confidence=1.0)
    with pytest.raises(SettingsError, match="one per query"):
        paired_interval([1.0, 0.0], [1.0, 2.0], clusters_Q=[1])
