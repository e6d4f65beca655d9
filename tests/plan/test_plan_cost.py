"""Money and time by hand: a price is a price or an error, never zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fct_ray.errors import SettingsError
from fct_ray.plan.cost import (
    NodePrice,
    PriceBook,
    break_even_rows,
    cost_usd,
    saved,
    storage_usd_per_month,
    total_usd,
    usd_per_node_hour,
)
from fct_ray.plan.forecast import Rates, forecast
from fct_ray.values import Usage

PLAIN = {
    "date": "2026-01-01",
    "currency": "USD",
    "region": "us-east-1",
    "source": "by hand",
    "node_types": {
        "small": {"usd_per_hour": 0.36, "vcpus": 2, "memory_gib": 8, "spot_usd_per_hour": 0.12},
        "big": {"usd_per_hour": 3.6, "vcpus": 8, "memory_gib": 64, "gpus": 1},
    },
    "storage": {"s3": {"usd_per_gb_month": 0.023, "usd_per_1000_puts": 0.005, "usd_per_1000_gets": 0.0004}},
}
BOOK = TypeAdapter(PriceBook).validate_python(PLAIN)


def test_a_price_book_is_read_from_plain_dictionaries() -> None:
    assert BOOK.node_types["big"] == NodePrice(usd_per_hour=3.6, vcpus=8, memory_gib=64, gpus=1)
    assert TypeAdapter(PriceBook).validate_python(TypeAdapter(PriceBook).dump_python(BOOK)) == BOOK


def test_cost_is_node_hours_times_price() -> None:
    usage = Usage(node_s=1800, busy_cpu_s=10)
    assert cost_usd(usage, usd_per_node_hour("small", BOOK)) == pytest.approx(0.18)
    assert cost_usd(usage, usd_per_node_hour("small", BOOK, spot=True)) == pytest.approx(0.06)
    assert storage_usd_per_month(2_000_000_000, "s3", BOOK) == pytest.approx(0.046)


def test_an_unknown_price_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"no price for node type 'huge'.*big, small"):
        usd_per_node_hour("huge", BOOK)
    with pytest.raises(SettingsError, match="no spot price for node type 'big'"):
        usd_per_node_hour("big", BOOK, spot=True)
    with pytest.raises(SettingsError, match="no price for storage 'tape'"):
        storage_usd_per_month(1, "tape", BOOK)


def test_money_that_is_not_known_is_none_and_never_zero() -> None:
    held, uncounted = Usage(node_s=3600, busy_cpu_s=10), Usage(busy_cpu_s=10)
    assert cost_usd(held, None) is None
    assert cost_usd(uncounted, 0.36) is None, "work without node-seconds is not free"
    assert cost_usd(Usage(), 0.36) == 0
    assert total_usd([held, Usage(), held], 0.36) == pytest.approx(0.72)
    assert total_usd([held, uncounted], 0.36) is None
    assert total_usd([held], None) is None


def test_a_price_of_zero_or_in_another_currency_is_refused() -> None:
    with pytest.raises(SettingsError, match="EUR"):
        PriceBook(date="", currency="EUR", region="", source="", node_types={})
    free = NodePrice(usd_per_hour=0.0, vcpus=1, memory_gib=1)
    with pytest.raises(SettingsError, match="more than zero"):
        PriceBook(date="", currency="USD", region="", source="", node_types={"free": free})


def test_savings_are_full_backfill_over_upgrade() -> None:
    full = Usage(busy_cpu_s=90, busy_gpu_s=10, flops=1e12, node_s=200)
    upgrade = Usage(busy_cpu_s=20, flops=1e10, node_s=50)
    assert saved(full, upgrade, usd_per_node_hour=0.36) == {
        "busy_compute": 5.0,
        "flops": 100.0,
        "usd": 4.0,
        "node_s": 4.0,
    }
    assert set(saved(full, upgrade)) == {"busy_compute", "flops", "node_s"}
    uncounted = Usage(busy_cpu_s=20)
    assert set(saved(full, uncounted, usd_per_node_hour=0.36)) == {"busy_compute"}
    assert saved(full, Usage()) == {}


def test_break_even_by_hand() -> None:
    assert break_even_rows(100.0, 1.0, 3.0) == 50
    assert break_even_rows(101.0, 1.0, 3.0) == 51
    assert break_even_rows(0.0, 1.0, 3.0) == 0
    assert break_even_rows(1.0, 3.0, 3.0) is None
    assert break_even_rows(1.0, 4.0, 3.0) is None
    with pytest.raises(SettingsError, match="finite"):
        break_even_rows(float("inf"), 1.0, 3.0)


@given(st.integers(0, 10**6), st.integers(0, 1000), st.integers(0, 1000))
def test_break_even_is_the_first_gallery_that_costs_no_more(fixed: int, upgrade: int, full: int) -> None:
    rows = break_even_rows(fixed, upgrade, full)
    if rows is None:
        assert upgrade >= full
        return
    assert fixed + rows * upgrade <= rows * full
    assert rows == 0 or fixed + (rows - 1) * upgrade > (rows - 1) * full


RATES = Rates(flops_per_s=1e9, storage_bytes_per_s=1e6, worker_start_s=5, index_rows_per_s=1e4, provenance="by hand")


def test_a_forecast_is_bound_by_the_slowest_resource() -> None:
    # compute 1000 * 1e7 / 1e9 = 10 s, storage 4 s, index 0.1 s; on two nodes 5 s, after 5 + 2 s.
    expected = forecast(
        rows=1000, num_bytes=4_000_000, flops_per_row=1e7, num_nodes=2, rates=RATES, usd_per_node_hour=3.0, fixed_s=2
    )
    assert (expected.wall_s, expected.node_s) == (12.0, 24.0)
    assert expected.usd == pytest.approx(0.02)
    assert expected.bound == "start"
    slow = forecast(rows=1000, num_bytes=40_000_000, flops_per_row=1e7, num_nodes=1, rates=RATES)
    assert (slow.wall_s, slow.usd, slow.bound) == (45.0, None, "storage")


def test_a_rate_or_a_cluster_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="flops_per_s is 0"):
        Rates(flops_per_s=0, storage_bytes_per_s=1, worker_start_s=0, provenance="")
    with pytest.raises(SettingsError, match="num_nodes is 0"):
        forecast(rows=1, num_bytes=1, flops_per_row=1, num_nodes=0, rates=RATES)


def test_two_runs_are_forecast_one_after_the_other_and_what_is_left_out_of_either_stays_named() -> None:
    work = {"rows": 1000, "num_nodes": 1, "rates": RATES, "usd_per_node_hour": 3.6}
    first = forecast(num_bytes=0, flops_per_row=1e7, **work)  # type: ignore[arg-type]
    second = forecast(num_bytes=10**8, flops_per_row=0, left_out=("x",), **work)  # type: ignore[arg-type]
    both = first + second
    assert (both.wall_s, both.bound, both.left_out) == (120.0, "storage", ("x",))
    assert both.usd == pytest.approx(0.12)
    assert (first + forecast(rows=1, num_bytes=1, flops_per_row=1, num_nodes=1, rates=RATES)).usd is None
