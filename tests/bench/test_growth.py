"""The growth model against timings that it must recover, and which resource binds a forecast."""

from __future__ import annotations

import json

import pytest

from fct_ray.bench.growth import (
    GrowthResult,
    GrowthSettings,
    Model,
    Point,
    fit_model,
    forecast_cluster,
    run_growth,
    shard_overhead_s,
)
from fct_ray.bench.growth_report import growth_json, of_one_shard_size
from fct_ray.errors import SettingsError


def _point(rows: int, shards: int) -> Point:
    wall_s = 6.0 + (shards * 0.02 + rows * 50e-6) / 2
    return Point(
        rows=rows, shards=shards, wall_s=wall_s, driver_cpu_s=0.003 * shards, workers_cpu_s=rows * 45e-6,
        peak_worker_bytes=1, peak_driver_bytes=1,
    )  # fmt: skip


def test_the_model_finds_the_constants_that_made_the_timings() -> None:
    points = [_point(100_000, 5), _point(300_000, 15), _point(1_000_000, 50), _point(200_000, 1000)]
    model = fit_model(points, actors=2)
    assert model.start_s == pytest.approx(6.0, rel=1e-3)
    assert model.shard_s == pytest.approx(0.02, rel=1e-3)
    assert model.row_s == pytest.approx(50e-6, rel=1e-3)
    assert model.driver_shard_s == pytest.approx(0.003)
    assert model.wall_s(10_000_000, 500) == pytest.approx(_point(10_000_000, 500).wall_s, rel=1e-3)


def test_what_a_shard_costs_is_seen_where_only_shards_differ() -> None:
    points = [_point(100_000, 5), _point(200_000, 10), _point(200_000, 1000)]
    assert shard_overhead_s(points, actors=2) == pytest.approx(0.02)
    assert shard_overhead_s(points[:2], actors=2) is None


@pytest.mark.parametrize(
    ("nodes", "node_bytes_per_s", "rows_per_shard", "bound", "stream_s"),
    [
        (1, 1e12, 1_000_000, "cores", (1000 * 0.02 + 1e9 * 50e-6) / 16),
        (64, 1e6, 1_000_000, "object storage", 1e9 * 2568 / 64e6),
        (1000, 1e12, 1_000, "driver", 1_000_000 * 0.003),
    ],
)
def test_the_slowest_resource_binds(
    nodes: int, node_bytes_per_s: float, rows_per_shard: int, bound: str, stream_s: float
) -> None:
    model = Model(start_s=6.0, shard_s=0.02, row_s=50e-6, driver_shard_s=0.003, actors=2)
    seen = forecast_cluster(
        model, cluster="c", rows=10**9, rows_per_shard=rows_per_shard, cores=16, nodes=nodes, usd_per_node_hour=3.6,
        bytes_per_row=2568, node_bytes_per_s=node_bytes_per_s,
    )  # fmt: skip
    assert seen.bound == bound
    assert seen.wall_s == pytest.approx(6.0 + stream_s)
    assert seen.usd == pytest.approx(seen.wall_s * nodes / 1000)


def test_settings_that_cannot_be_fitted_or_priced_are_refused_before_any_run() -> None:
    with pytest.raises(SettingsError, match="two different"):
        run_growth(GrowthSettings(sizes=(1000, 1000)))
    with pytest.raises(SettingsError, match="TYPE x NODES"):
        run_growth(GrowthSettings(clusters=("no-such-type x 4",)))


def test_the_plot_leaves_out_runs_of_another_shard_size_and_no_path_is_in_the_figures() -> None:
    result = GrowthResult(
        settings=GrowthSettings(directory="/somewhere/private"),
        points=(_point(1_000_000, 50), _point(200_000, 10), _point(200_000, 1000)),
        model=Model(start_s=6.0, shard_s=0.02, row_s=50e-6, driver_shard_s=0.003, actors=2),
        check=_point(10_000_000, 500),
        predicted_s=261.0,
        forecasts=(),
    )
    assert [point.shards for point in of_one_shard_size(result)] == [10, 50, 500]
    figures = json.loads(growth_json(result))
    assert figures["points"][2]["shards"] == 1000
    assert "private" not in growth_json(result).decode()
