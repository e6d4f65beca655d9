"""Numbers as people read them; expected texts by hand."""

from __future__ import annotations

import math

import pytest

from fct_ray.report.quantities import bytes_text, count, duration, factor, flops_text, money, percent, ratio


@pytest.mark.parametrize(("share", "text"), [(0.9567, "95.7 %"), (0.0, "0.0 %"), (-0.031, "-3.1 %"), (math.nan, "n/a")])
def test_shares_are_percentages_with_one_decimal(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (31_457_280, "30.0 MiB"), (10**12, "931.3 GiB")]
)
def test_bytes_are_in_binary_units(num_bytes: int, text: str) -> None:
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (0.416, "0.42 s"),
        (8.12, "8.1 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (7620.0, "2 h 07 min"),
        (3_600_000.0, "1,000 h 00 min"),
        (None, "n/a"),
    ],
)
def test_time_is_in_the_unit_people_would_use(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "node_s", "text"),
    [
        (1234.5, 1.0, "$1,234.50"),
        (0.1512, 1.0, "$0.15"),
        (0.0004, 1.0, "$0.0004"),
        (None, 5400.0, "n/a (hours: 1.500)"),
        (None, 0.5, "n/a (hours: < 0.001)"),
        (None, None, "n/a"),
    ],
)
def test_money_that_is_unknown_says_the_hours_and_is_never_zero(
    usd: float | None, node_s: float | None, text: str
) -> None:
    assert money(usd, node_s) == text


def test_factors_below_one_keep_two_decimals_because_they_say_dearer() -> None:
    assert (factor(711.04), factor(1.75), factor(0.804), factor(None)) == ("711.0x", "1.8x", "0.80x", "n/a")


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0.0, "not counted"), (999.0, "999 FLOP"), (5.7e12, "5.7 TFLOP"), (999_999.0, "1 MFLOP"), (2e20, "200 EFLOP")],
)
def test_flops_have_si_prefixes(flops: float, text: str) -> None:
    assert flops_text(flops) == text


def test_counts_are_grouped() -> None:
    assert (count(1_000_000), count(None)) == ("1,000,000", "n/a")


def test_ratios_keep_two_decimals_and_very_small_ones_two_digits() -> None:
    assert (ratio(1.384), ratio(0.984), ratio(0.1), ratio(0.000774)) == ("1.38", "0.98", "0.10", "0.00077")
