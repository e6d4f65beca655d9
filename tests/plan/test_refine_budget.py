"""What `--refine-budget` means, by hand calculation."""

from __future__ import annotations

import pytest

from fct_ray.errors import SettingsError
from fct_ray.plan.refine_budget import BudgetUnit, RefineBudget, items_within, parse_refine_budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5%", 5.0, BudgetUnit.SHARE),
        (" .5 % ", 0.5, BudgetUnit.SHARE),
        ("100%", 100.0, BudgetUnit.SHARE),
        ("$20", 20.0, BudgetUnit.USD),
        ("$ 0.50", 0.5, BudgetUnit.USD),
        ("2gpu-h", 2.0, BudgetUnit.GPU_HOURS),
        ("1.5 node-h", 1.5, BudgetUnit.NODE_HOURS),
    ],
)
def test_a_share_dollars_and_hours_are_read(text: str, amount: float, unit: BudgetUnit) -> None:
    assert parse_refine_budget(text) == RefineBudget(amount=amount, unit=unit)
    assert parse_refine_budget(str(parse_refine_budget(text))) == parse_refine_budget(text)


@pytest.mark.parametrize(
    "text", ["", "5", "five%", "$5%", "-5%", "0%", "$0", "101%", "2h", "2 gpu", "5%%", "nan%", "1e3%"]
)
def test_what_is_no_budget_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--refine-budget is .*\$20.*2gpu-h"):
        parse_refine_budget(text)


def _items(text: str, **changed: float | None) -> int:
    known: dict[str, float | None] = {"s_per_item": 0.5, "start_s": 100.0, "usd_per_node_hour": 1.8, **changed}
    return items_within(
        parse_refine_budget(text),
        num_rows=10_000,
        num_pairs=int(known.pop("num_pairs", None) or 1000),
        **known,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5%", 500),
        ("0.01%", 1),
        ("100%", 9000),  # the pairs are not embedded again
        ("1node-h", 7000),  # (3600 s - 100 s) / 0.5 s
        ("1gpu-h", 7000),
        ("$1.8", 7000),  # one node-hour
        ("$100", 9000),
    ],
)
def test_a_budget_is_a_number_of_items_by_the_forecast(text: str, count: int) -> None:
    assert _items(text) == count


@pytest.mark.parametrize(
    ("text", "changed", "wanted"),
    [
        ("0.001%", {}, "not enough for one item"),
        ("$0.01", {}, "not enough for one item"),
        ("$20", {"usd_per_node_hour": None}, "no price"),
        ("2gpu-h", {"s_per_item": None}, "flops_per_item"),
        ("5%", {"num_pairs": 10_000}, "all 10,000 items of the gallery are pairs"),
    ],
)
def test_a_budget_that_cannot_be_reckoned_or_buys_nothing_is_refused(
    text: str, changed: dict[str, float | None], wanted: str
) -> None:
    with pytest.raises(SettingsError, match=wanted):
        _items(text, **changed)


def test_a_share_needs_neither_a_price_nor_what_an_item_takes() -> None:
    assert _items("5%", s_per_item=None, usd_per_node_hour=None) == 500
