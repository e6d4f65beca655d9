"""The headline numbers, reckoned by hand from raw usage records."""

from __future__ import annotations

import pytest

from fct_ray.plan.savings import PROJECTED_ROWS, InAdvance, SavedWork, work_saved
from fct_ray.values import Usage

ROWS = 1000
FULL = {"stream": Usage(busy_cpu_s=390.0, flops=9e9, node_s=200.0), "verify": Usage(busy_cpu_s=10.0, node_s=4.0)}
UPGRADE = {
    "pairs": Usage(busy_cpu_s=40.0, flops=9e8, node_s=20.0),
    "fit": Usage(busy_cpu_s=30.0, flops=1e9, node_s=15.0),
    "gate": Usage(busy_cpu_s=20.0, node_s=10.0),
    "stream": Usage(busy_cpu_s=8.0, flops=1e8, node_s=5.0),
    "verify": Usage(busy_cpu_s=2.0, node_s=1.0),
}
IN_ADVANCE = InAdvance(embedding=Usage(busy_cpu_s=50.0), fitting=Usage(busy_cpu_s=50.0))


@pytest.fixture
def saved() -> SavedWork:
    return work_saved(FULL, UPGRADE, rows=ROWS, in_advance=IN_ADVANCE, usd_per_node_hour=3.6)


def test_the_headline_counts_all_work_of_the_upgrade(saved: SavedWork) -> None:
    assert saved.all_work == {
        "busy_compute": 4.0,
        "flops": 4.5,
        "usd": 4.0,
        "node_s": 4.0,
    }  # 400 / 100, 9e9 / 2e9, 204 / 51


def test_each_variant_says_what_it_counts(saved: SavedWork) -> None:
    assert saved.variants["with_fitting_h"] == saved.all_work
    assert saved.variants["without_fitting_h"]["busy_compute"] == 40.0  # 400 / (8 + 2): what grows with the gallery
    assert saved.variants["with_side_information"]["busy_compute"] == 2.0  # 400 / (100 + 50 + 50)
    assert (
        "with_side_information"
        not in work_saved(FULL, UPGRADE, rows=ROWS, in_advance=None, usd_per_node_hour=None).variants
    )


def test_the_upgrade_pays_from_where_its_fixed_work_is_earned_back(saved: SavedWork) -> None:
    assert saved.break_even_rows == 231  # 90 / (0.4 - 0.01) = 230.8


def test_at_other_sizes_work_for_rows_grows_and_fixed_work_does_not(saved: SavedWork) -> None:
    measured, *larger = saved.projections
    assert (measured.rows, measured.upgrade.busy_cpu_s, measured.full.busy_cpu_s) == (ROWS, 100.0, 400.0)
    assert tuple(projection.rows for projection in larger) == PROJECTED_ROWS
    assert larger[0].upgrade.busy_cpu_s == pytest.approx(90.0 + 0.01 * 1e6)
    assert larger[0].full.busy_cpu_s == pytest.approx(0.4 * 1e6)
    assert larger[0].in_advance is not None
    assert larger[0].in_advance.busy_cpu_s == pytest.approx(50.0 + 0.05 * 1e6)  # its model is fitted once


def test_smaller_sizes_than_the_measured_one_are_not_told() -> None:
    saved = work_saved(FULL, UPGRADE, rows=2_000_000, in_advance=None, usd_per_node_hour=None)
    assert [projection.rows for projection in saved.projections] == [2_000_000, 100_000_000, 1_000_000_000]
