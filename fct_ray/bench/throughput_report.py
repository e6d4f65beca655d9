"""Throughput of several pipelines as a table for people and as JSON for programs.

Owns: which figures are shown; a ratio is always one of the same run.
"""

from __future__ import annotations

import dataclasses
import statistics

from fct_ray.bench.figures import figures_json
from fct_ray.bench.pipeline_process import Measurement
from fct_ray.bench.pipelines import PIPELINES
from fct_ray.bench.throughput import ThroughputResult, ratios
from fct_ray.report.quantities import bytes_text, count, duration, percent, ratio
from fct_ray.report.text_table import Table

SAME_WORK = ("loop", "durable_loop", "ours", "plain_ray_data", "daft")


def throughput_table(result: ThroughputResult) -> Table:
    """One line per pipeline: median rows a second, ratios, the worst memory of all rounds."""
    names = list(dict.fromkeys(one.pipeline for one in result.measurements))
    baseline = names[0]
    against = ratios(result, baseline)
    rows = []
    for name in names:
        rounds = result.of(name)
        rate = result.rows_per_s(name)
        rows.append(
            (
                name,
                f"{rate:,.0f}",
                ratio(against[name]),
                percent(rate / result.roof.rows_per_s) if name in SAME_WORK else "",
                duration(_median(rounds, "cpu_s") / rounds[0].done.rows * 1e6),
                bytes_text(max(one.peak_process_bytes for one in rounds)),
                bytes_text(rounds[0].bytes_written),
                duration(statistics.median(first)) if (first := _first_rows(rounds)) else "",
            )
        )
    roof, settings = result.roof, result.settings
    return Table(
        name="throughput",
        title=f"{count(settings.data.rows)} rows, {settings.threads} cores, medians of {settings.rounds} rounds",
        sentence=(
            f"Roof: {roof.rows_per_s:,.0f} rows/s by {roof.bound} ({roof.flops_per_s / 1e9:,.0f} GFLOP/s float32, "
            f"{roof.storage_bytes_per_s / 1e6:,.0f} MB/s, {result.flops_per_row / 1e6:.1f} MFLOP a row), measured in this "
            "run. Memory is that of the largest process. All ran in turns on the same data; their vectors were compared. "
            + ". ".join(f"{name}: {PIPELINES[name].about}" for name in names)
            + "."
        ),
        header=(
            "pipeline",
            "rows/s",
            f"against {baseline}",
            "of the roof",
            "CPU per million rows",
            "memory",
            "written",
            "first row",
        ),
        rows=tuple(rows),
        emphasized=frozenset(place for place, name in enumerate(names) if name == "ours"),
    )


def throughput_json(result: ThroughputResult) -> bytes:
    """Roof, every measurement, medians and ratios."""
    names = list(dict.fromkeys(one.pipeline for one in result.measurements))
    figures = {
        "roof": dataclasses.asdict(result.roof),
        "flops_per_row": result.flops_per_row,
        "largest_difference": result.largest_difference,
        "left_out": result.left_out,
        "rows_per_s": {name: result.rows_per_s(name) for name in names},
        "ratio_to_first": ratios(result, names[0]),
        "ratio_to_roof": {
            name: result.rows_per_s(name) / result.roof.rows_per_s for name in names if name in SAME_WORK
        },
        "measurements": [dataclasses.asdict(one) | {"rows_per_s": one.rows_per_s} for one in result.measurements],
    }
    return figures_json(result.settings, figures)


def _median(rounds: list[Measurement], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in rounds))


def _first_rows(rounds: list[Measurement]) -> list[float]:
    return [one.done.first_row_s for one in rounds if one.done.first_row_s is not None]
