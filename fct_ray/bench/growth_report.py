"""Growth as tables and a plot for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from fct_ray.bench.figures import figures_json
from fct_ray.bench.growth import GrowthResult, Point, shard_overhead_s
from fct_ray.report.quantities import bytes_text, count, duration, money, ratio
from fct_ray.report.text_table import Table


def growth_tables(result: GrowthResult) -> tuple[Table, ...]:
    """The runs, then the forecasts."""
    model, check = result.model, result.check
    points = [*result.points, *([] if check is None else [check])]
    checked = ""
    if check is not None and result.predicted_s is not None:
        checked = (
            f" Predicted for {count(check.rows)} rows before they were run: {duration(result.predicted_s)}; taken: "
            f"{duration(check.wall_s)} ({ratio(check.wall_s / result.predicted_s)} of the prediction)."
        )
    runs = Table(
        name="growth",
        title=f"Streaming stage, {model.actors} actors",
        sentence=(
            f"Fitted: {duration(model.start_s)} to start, {model.shard_s * 1e3:.1f} ms per shard and {model.row_s * 1e6:.1f} "
            f"microseconds per row of one actor; the driver's own CPU is {model.driver_shard_s * 1e3:.1f} ms per shard."
            + _overhead(points, model.actors)
            + checked
        ),
        header=("rows", "shards", "wall", "µs per row", "worker CPU, µs per row", "peak worker", "peak driver"),
        rows=tuple(_cells(point) for point in points),
    )
    forecasts = Table(
        name="forecast",
        title="Forecasts, shards of a million rows",
        sentence=(
            "Assumed: workers scale with cores, cores are like those measured, every node moves "
            f"{result.settings.node_bytes_per_s / 1e6:,.0f} MB/s of object storage, the driver takes shards one by one, and "
            "on-demand prices of the price book. The h is the one measured here, not the paper's wider one."
        ),
        header=("cluster", "rows", "wall", "money", "binds"),
        rows=tuple(
            (one.cluster, count(one.rows), duration(one.wall_s), money(one.usd, None), one.bound)
            for one in result.forecasts
        ),
    )
    return runs, forecasts


def growth_json(result: GrowthResult) -> bytes:
    """Everything that was measured, fitted and forecast; times in seconds, memory in bytes."""
    figures = dataclasses.asdict(result)
    del figures["settings"]
    return figures_json(result.settings, figures)


def of_one_shard_size(result: GrowthResult) -> list[Point]:
    """The runs at `data.rows_per_shard`, the check too, by rows ascending: they differ in nothing else."""
    usual = result.settings.data.rows_per_shard
    points = [*result.points, *([] if result.check is None else [result.check])]
    return sorted((one for one in points if one.shards == math.ceil(one.rows / usual)), key=lambda one: one.rows)


def growth_plot(result: GrowthResult) -> bytes:
    """PNG: time per row and peak memory over rows, at one size of shard."""
    points = of_one_shard_size(result)
    rows = [point.rows for point in points]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    times.plot(rows, [point.wall_s / point.rows * 1e6 for point in points], "o-", label="measured")
    shards = [point.shards for point in points]
    predicted = [result.model.wall_s(r, s) / r * 1e6 for r, s in zip(rows, shards, strict=True)]
    times.plot(rows, predicted, "--", label="model")
    times.set(xscale="log", xlabel="rows", ylabel="microseconds per row", ylim=(0, None), title="cost of a row")
    times.legend()
    memory.plot(rows, [point.peak_worker_bytes / 2**20 for point in points], "o-", label="worker")
    memory.plot(rows, [point.peak_driver_bytes / 2**20 for point in points], "s-", label="driver")
    memory.set(xscale="log", xlabel="rows", ylabel="peak memory, MiB", ylim=(0, None), title="memory of a process")
    memory.legend(loc="lower center")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _overhead(points: Sequence[Point], actors: int) -> str:
    shard_s = shard_overhead_s(points, actors=actors)
    return "" if shard_s is None else f" At equal rows one more shard costs one actor {shard_s * 1e3:.0f} ms."


def _cells(point: Point) -> tuple[str, ...]:
    return (
        count(point.rows),
        count(point.shards),
        duration(point.wall_s),
        f"{point.wall_s / point.rows * 1e6:.1f}",
        f"{point.workers_cpu_s / point.rows * 1e6:.1f}",
        bytes_text(point.peak_worker_bytes),
        bytes_text(point.peak_driver_bytes),
    )
