"""Growth: what rows and shards cost, a model fitted on that, and what it says of galleries too large to run here.

    wall = start + (shards x per_shard + rows x per_row) / actors

Owns: which sizes are run, the fit of the three constants, the check of its prediction on a run larger than any it was fitted
on, and the forecast for a cluster. Assumptions of that forecast: workers scale with cores; every node reads and writes
`node_bytes_per_s` of object storage; the driver handles shards one after another. A cluster's cores are taken to be like the
cores measured.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from fct_ray.bench.dataset import DatasetSettings, make_dataset
from fct_ray.bench.pipeline_process import measure
from fct_ray.bench.pipelines import PipelineJob
from fct_ray.cli.price_book import load_price_book
from fct_ray.errors import SettingsError
from fct_ray.plan.cost import held_usd
from fct_ray.settings import CheckedSettings, Count, CountOrZero, Positive

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GrowthSettings(CheckedSettings):
    """What more rows and more shards cost."""

    directory: str = ".data/bench"
    """Where data and outputs go."""
    sizes: tuple[Count, ...] = (100_000, 200_000, 1_000_000)
    """Rows of the runs that the model is fitted on, at `data.rows_per_shard`."""
    small_shards: tuple[Count, Count] = (200_000, 200)
    """Rows and rows per shard of one more run, which tells shards from rows: one of `sizes`, in many more shards."""
    check: CountOrZero = 10_000_000
    """Rows of the run that the prediction is checked on; 0 leaves it out."""
    threads: Count = 2
    """Cores."""
    batch_rows: Count = 4096
    """Rows that h transforms at a time."""
    index: str = "Flat"
    """FAISS factory string of the index."""
    clusters: tuple[str, ...] = ("c7i.4xlarge x 4", "c7i.4xlarge x 32")
    """Clusters to forecast for: a node type of the price book, and how many."""
    node_bytes_per_s: Positive = 400e6
    """What one node reads and writes of object storage a second, both ways (an assumption)."""
    data: DatasetSettings = field(default_factory=lambda: DatasetSettings(inner=256))
    """The data; a narrow h, so that the engine's own costs show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run."""

    rows: int
    shards: int
    wall_s: float
    driver_cpu_s: float
    workers_cpu_s: float
    peak_worker_bytes: int
    peak_driver_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Seconds: to start, per shard and per row of one actor; `driver_shard_s` is the driver's CPU time per shard."""

    start_s: float
    shard_s: float
    row_s: float
    driver_shard_s: float
    actors: int

    def wall_s(self, rows: int, shards: int, actors: int | None = None) -> float:
        """The predicted wall time of the streaming stage."""
        return self.start_s + (shards * self.shard_s + rows * self.row_s) / (actors or self.actors)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterForecast:
    """A gallery on a named cluster."""

    cluster: str
    rows: int
    shards: int
    wall_s: float
    usd: float | None
    bound: str
    """Which resource binds: "cores", "object storage" or "driver"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthResult:
    """The runs, the model, its check and its forecasts."""

    settings: GrowthSettings
    points: tuple[Point, ...]
    model: Model
    check: Point | None
    predicted_s: float | None
    forecasts: tuple[ClusterForecast, ...]


def run_growth(settings: GrowthSettings) -> GrowthResult:
    """Run the sizes, fit, check, forecast.

    Raises:
        SettingsError: too few sizes to fit on, or a cluster that the price book does not have.
    """
    if len(set(settings.sizes)) < 2:
        raise SettingsError(f"sizes {settings.sizes}: want at least two different numbers of rows")
    clusters = [_cluster(text) for text in settings.clusters]
    data, points = settings.data, []
    small_rows, small_shard = settings.small_shards
    for rows, rows_per_shard in [*((size, data.rows_per_shard) for size in settings.sizes), (small_rows, small_shard)]:
        points.append(_run(settings, rows, rows_per_shard))
    model = fit_model(points, actors=settings.threads)
    check = _run(settings, settings.check, data.rows_per_shard) if settings.check else None
    bytes_per_row = 8 + 4 * (data.old_dimension + 2 * data.side_dimension + 2 * data.new_dimension)
    forecasts = [
        forecast_cluster(
            model,
            cluster=text,
            rows=rows,
            rows_per_shard=1_000_000,
            cores=cores,
            nodes=nodes,
            usd_per_node_hour=usd,
            bytes_per_row=bytes_per_row,
            node_bytes_per_s=settings.node_bytes_per_s,
        )
        for text, (cores, nodes, usd) in zip(settings.clusters, clusters, strict=True)
        for rows in (1_000_000_000, 10_000_000_000)
    ]
    return GrowthResult(
        settings=settings,
        points=tuple(points),
        model=model,
        check=check,
        predicted_s=None if check is None else model.wall_s(check.rows, check.shards),
        forecasts=tuple(forecasts),
    )


def shard_overhead_s(points: Sequence[Point], *, actors: int) -> float | None:
    """Seconds of one actor that one more shard costs at equal rows; None if no two runs differ in shards alone."""
    for few in points:
        for many in points:
            if few.rows == many.rows and few.shards < many.shards:
                return (many.wall_s - few.wall_s) * actors / (many.shards - few.shards)
    return None


def fit_model(points: Sequence[Point], *, actors: int) -> Model:
    """Least squares of relative errors with constants that cannot be negative."""
    wall = np.array([point.wall_s for point in points])
    terms = np.array([[1.0, point.shards / actors, point.rows / actors] for point in points])
    (start_s, shard_s, row_s), _ = nnls(terms / wall[:, None], np.ones(len(points)))
    many = max(points, key=lambda point: point.shards)
    return Model(
        start_s=float(start_s),
        shard_s=float(shard_s),
        row_s=float(row_s),
        driver_shard_s=many.driver_cpu_s / many.shards,
        actors=actors,
    )


def forecast_cluster(
    model: Model,
    *,
    cluster: str,
    rows: int,
    rows_per_shard: int,
    cores: int,
    nodes: int,
    usd_per_node_hour: float,
    bytes_per_row: float,
    node_bytes_per_s: float,
) -> ClusterForecast:
    """Wall time and money of streaming `rows` on `nodes` nodes of `cores` cores: the slowest of three resources binds."""
    shards = math.ceil(rows / rows_per_shard)
    parts_s = {
        "cores": (shards * model.shard_s + rows * model.row_s) / (cores * nodes),
        "object storage": rows * bytes_per_row / (nodes * node_bytes_per_s),
        "driver": shards * model.driver_shard_s,
    }
    bound = max(parts_s, key=lambda name: parts_s[name])
    wall_s = model.start_s + parts_s[bound]
    return ClusterForecast(
        cluster=cluster,
        rows=rows,
        shards=shards,
        wall_s=wall_s,
        usd=held_usd(wall_s * nodes, usd_per_node_hour),
        bound=bound,
    )


def _cluster(text: str) -> tuple[int, int, float]:
    """Cores of a node, nodes, and the price of a node-hour, of "c7i.4xlarge x 4"."""
    name, _, count = text.partition(" x ")
    book = load_price_book(None)
    if name not in book.node_types or not count.strip().isdigit():
        raise SettingsError(f"cluster {text!r}: want TYPE x NODES with a type of {', '.join(book.node_types)}")
    node = book.node_types[name]
    return node.vcpus, int(count), node.usd_per_hour


def _run(settings: GrowthSettings, rows: int, rows_per_shard: int) -> Point:
    root = Path(settings.directory).absolute()
    data = replace(settings.data, rows=rows, rows_per_shard=rows_per_shard, num_pairs=min(1000, rows))
    dataset = make_dataset(str(root), data)
    output = root / "out/growth"
    job = PipelineJob(
        shards=dataset.shards_directory,
        pairs=dataset.pairs,
        transformation=dataset.transformation,
        rows=rows,
        output=str(output),
        threads=settings.threads,
        batch_rows=settings.batch_rows,
        index_factory=settings.index,
    )
    measured = measure("ours", job, 1)
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(dataset.directory, ignore_errors=True)  # the largest is 10 GB
    figures = measured.done.figures
    point = Point(
        rows=rows,
        shards=math.ceil(rows / rows_per_shard),
        wall_s=figures["stream_s"],
        driver_cpu_s=figures["driver_cpu_s"],
        workers_cpu_s=figures["workers_cpu_s"],
        peak_worker_bytes=int(figures["peak_worker_bytes"]),
        peak_driver_bytes=measured.driver_peak_bytes,
    )
    logger.info("%s rows in %d shards: %.1f s", f"{rows:,}", point.shards, point.wall_s)
    return point
