"""The gate: harm is refused, proven gains pass, and the sentences carry the figures."""

from __future__ import annotations

import math
import pickle

import numpy as np
import numpy.typing as npt
import pytest

from fct_ray.errors import SettingsError
from fct_ray.judgements import GateCheck, QueryScores
from fct_ray.kinds import Method
from fct_ray.plan.gate import (
    check_bar,
    choose_candidate,
    decide,
    judge,
    lower_bound,
    negative_flips,
    t_95,
    worst_group,
)
from fct_ray.plan.gate_texts import pairs_that_would_decide


def _around(mean: float, *, count: int = 400, spread: float = 0.2) -> npt.NDArray[np.float64]:
    """Half of the queries `spread` below, half above: mean and standard deviation are known."""
    return mean + spread * np.where(np.arange(count) % 2 == 0, 1.0, -1.0)


def _scores(agreement: float, average_precision: float | None = None, count: int = 400) -> QueryScores:
    """Scores whose differences between two calls are the same for every query but a tenth of noise."""
    noise = _around(0.0, count=count, spread=0.01 * (1 + agreement))
    return QueryScores(
        agreement_Q=agreement + noise,
        average_precision_Q=None if average_precision is None else average_precision + noise,
    )


def test_the_t_quantile_follows_the_printed_table() -> None:
    # Percentiles of Student's t at 0.95, from any statistics table.
    table = {5: 2.015, 9: 1.833, 29: 1.699, 99: 1.660, 1_000_000: 1.645}
    for freedom, value in table.items():
        assert t_95(freedom) == pytest.approx(value, abs=0.002)


def test_the_lower_bound_by_hand() -> None:
    # mean 2, sd 1 (n - 1), 3 values: 2 - 2.920 / sqrt(3); the expansion is rough at 2 degrees of freedom.
    mean, low = lower_bound([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert low == pytest.approx(2.0 - 2.920 / math.sqrt(3), abs=0.1)
    assert lower_bound([0.5]) == (0.5, -1.0)
    assert lower_bound([]) == (0.0, -1.0)


def test_the_bound_holds_in_95_of_100_repetitions() -> None:
    rng = np.random.default_rng(0)
    below = [lower_bound(rng.exponential(size=200) - 1.0)[1] <= 0.0 for _ in range(2000)]
    assert np.mean(below) == pytest.approx(0.95, abs=0.025)


def test_differences_are_paired() -> None:
    # Both vary by 0.3 between queries, the difference is the same 0.01 everywhere: paired, it is certain.
    bar = _around(0.5, count=100, spread=0.3)
    check = check_bar("agreement", bar + 0.01, bar)
    assert check.passed
    assert check.margin_low == pytest.approx(0.01)
    assert not check_bar("agreement", bar[::-1] + 0.01, bar).passed


def test_no_better_than_doing_nothing_is_refused_unless_tolerated() -> None:
    bar = _around(0.5)
    assert not check_bar("agreement", bar, bar).passed
    assert check_bar("agreement", bar, bar, tolerance=0.01).passed
    assert check_bar("agreement", bar - 0.005, bar, tolerance=0.01).passed
    assert not check_bar("agreement", bar - 0.02, bar, tolerance=0.01).passed


def test_too_few_queries_never_pass() -> None:
    bar = _around(0.2, count=29)
    assert not check_bar("agreement", bar + 0.5, bar).passed
    assert check_bar("agreement", bar + 0.5, bar, min_queries=29).passed


def test_queries_without_relevant_items_are_left_out_of_both_sides() -> None:
    candidate, bar = np.full(40, 0.6), np.full(40, 0.5)
    candidate[0], bar[1] = np.nan, np.nan
    check = check_bar("map", candidate, bar)
    assert check.candidate == pytest.approx(0.6)
    assert check.bar == pytest.approx(0.5)
    assert check.passed
    assert not check_bar("map", np.full(40, np.nan), bar).passed


def test_scores_of_different_queries_or_broken_scores_are_refused() -> None:
    with pytest.raises(SettingsError, match="same queries"):
        check_bar("agreement", np.ones(3), np.ones(4))
    with pytest.raises(SettingsError, match="infinite"):
        check_bar("agreement", np.full(3, np.inf), np.ones(3))
    with pytest.raises(SettingsError, match="tolerance"):
        check_bar("agreement", np.ones(3), np.ones(3), tolerance=-0.1)
    with pytest.raises(SettingsError, match="one side only"):
        decide(agreement_candidate_Q=np.ones(3), agreement_bar_Q=np.ones(3), map_bar_Q=np.ones(3))


def test_every_bar_must_be_cleared() -> None:
    bar = _around(0.5)
    checks = decide(
        agreement_candidate_Q=bar + 0.2, agreement_bar_Q=bar, map_candidate_Q=bar - 0.1, map_bar_Q=bar, k=10
    )
    assert [(check.measure, check.passed) for check in checks] == [("agreement@10", True), ("map", False)]


def test_the_best_mean_is_chosen_and_ties_go_to_the_simpler() -> None:
    scores = {Method.FCT_SIDE: _around(0.8), Method.FCT_NOSIDE: _around(0.7), Method.LINEAR_SIDE: _around(0.6)}
    assert choose_candidate(scores) == Method.FCT_SIDE
    assert choose_candidate({**scores, Method.LINEAR_SIDE: _around(0.7995)}) == Method.LINEAR_SIDE
    assert choose_candidate({**scores, Method.LINEAR_SIDE: _around(0.7995)}, tie_margin=0.0) == Method.FCT_SIDE
    equal = {
        name: _around(0.5) for name in (Method.FCT_SIDE, Method.FCT_NOSIDE, Method.LINEAR_SIDE, Method.LINEAR_NOSIDE)
    }
    assert choose_candidate(equal) == Method.LINEAR_NOSIDE
    with pytest.raises(SettingsError, match="no candidates"):
        choose_candidate({})
    with pytest.raises(SettingsError, match="scores of fct_side"):
        choose_candidate({Method.FCT_SIDE: np.array([np.nan, 1.0])})


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


def test_a_proven_gain_is_published_with_its_figures() -> None:
    result = judge(
        candidates={Method.FCT_SIDE: _scores(0.7, 0.6), Method.LINEAR_SIDE: _scores(0.5, 0.5)},
        bar=_scores(0.4, 0.3),
        fused=_scores(0.45, 0.35),
        ceiling=_scores(1.0, 0.8),
        k=10,
    )
    assert result.passed
    assert result.chosen == Method.FCT_SIDE
    assert result.advice == ""
    assert result.reason.startswith(
        "passed: fct_side clears every bar on 400 held-out pairs: agreement@10 0.700 against"
    )
    assert "map 0.600 against 0.300 for doing nothing (+0.300, at least +0.300" in result.reason
    assert result.agreement == {
        Method.OLD_OLD: pytest.approx(0.4),
        Method.FCT_SIDE: pytest.approx(0.7),
        Method.LINEAR_SIDE: pytest.approx(0.5),
        Method.FUSED: pytest.approx(0.45),
    }
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301


def test_harm_is_refused_and_the_report_says_what_would_be_better() -> None:
    result = judge(
        candidates={Method.FCT_NOSIDE: _scores(0.3), Method.LINEAR_NOSIDE: _scores(0.2)},
        bar=_scores(0.4),
        fused=_scores(0.5),
        k=10,
        has_side_information=False,
        uncovered_share=0.5,
    )
    assert not result.passed
    assert result.chosen == Method.FCT_NOSIDE
    assert "refused: fct_noside does harm in agreement@10 on 400 held-out pairs" in result.reason
    for part in ("fit on more pairs", "no side-information", "fused search", "50% of the gallery"):
        assert part in result.advice


def test_a_candidate_that_clears_every_bar_is_preferred_to_a_better_one_that_does_not() -> None:
    candidates = {Method.FCT_SIDE: _scores(0.9, 0.2), Method.LINEAR_SIDE: _scores(0.6, 0.5)}
    result = judge(candidates=candidates, bar=_scores(0.4, 0.3), k=10)
    assert (result.passed, result.chosen) == (True, Method.LINEAR_SIDE)


def test_a_new_model_that_is_no_better_is_named_as_the_cause() -> None:
    result = judge(
        candidates={Method.FCT_SIDE: _scores(0.6, 0.2)}, bar=_scores(0.4, 0.3), ceiling=_scores(1.0, 0.25), k=10
    )
    assert not result.passed
    assert "the new model itself is no better here (mAP 0.250 on its own embeddings against 0.300" in result.advice


def test_an_unproven_gain_says_how_many_pairs_would_decide_it() -> None:
    # Differences of 0.01 on average, 0.3 up or down: bound 0.01 - 1.65 * 0.3 / sqrt(400) = -0.0148.
    bar = QueryScores(agreement_Q=np.full(400, 0.5))
    candidate = QueryScores(agreement_Q=_around(0.51, spread=0.3))
    result = judge(candidates={Method.FCT_SIDE: candidate}, bar=bar, k=10)
    assert "is not proven better in agreement@10" in result.reason
    # (1.6487 * 0.3004 / 0.01) squared = 2,453
    assert "about 2,45" in result.advice


def test_the_number_of_pairs_that_would_decide_grows_with_the_square_of_the_noise() -> None:
    check = GateCheck(measure="m", candidate=0.5, bar=0.4, margin=0.1, margin_low=-0.1, passed=False)
    assert pairs_that_would_decide(check, num_pairs=100) == 400
    assert pairs_that_would_decide(check, num_pairs=100, tolerance=0.1) == 101
    losing = GateCheck(measure="m", candidate=0.4, bar=0.5, margin=-0.1, margin_low=-0.2, passed=False)
    assert pairs_that_would_decide(losing, num_pairs=100) is None


def test_too_few_pairs_are_refused_by_name() -> None:
    result = judge(candidates={Method.FCT_SIDE: _scores(0.9, count=20)}, bar=_scores(0.1, count=20), k=10)
    assert not result.passed
    assert "20 held-out pairs are too few to judge fct_side, wanted 30" in result.reason
    assert "hold out at least 30" in result.advice


def test_a_losing_group_is_named_even_where_the_version_passes() -> None:
    groups = np.repeat([1, 2], 200)
    bar = QueryScores(agreement_Q=_around(0.5, spread=0.01))
    gains = np.where(groups == 1, 0.3, -0.1)
    winner = QueryScores(agreement_Q=bar.agreement_Q + gains, top1_right_Q=np.arange(400) < 100)
    bar = QueryScores(agreement_Q=bar.agreement_Q, top1_right_Q=np.arange(400) >= 300)
    result = judge(candidates={Method.FCT_SIDE: winner}, bar=bar, k=10, groups_Q=groups)
    assert result.passed
    assert result.negative_flips == 0.25
    assert result.worst_group is not None
    assert result.worst_group["group"] == 2.0
    assert "group 2 loses: agreement 0.400 against 0.500" in result.advice
