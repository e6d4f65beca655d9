"""Measure the engine against its limits and its peers, on this machine, side by side.

Examples:
    python jobs/bench.py throughput                               # 200,000 rows, 3 rounds, about 10 minutes on 2 cores
    python jobs/bench.py throughput --data.rows 2000000 --rounds 1
    python jobs/bench.py throughput --pipelines loop ours_whole backfill_small backfill_resnet50
    python jobs/bench.py sharding                                 # a sharded index against one FAISS index
    python jobs/bench.py one_actor                                # h alone in each precision, on a GPU if there is one
    python jobs/bench.py overlap --storage s3://bucket/bench      # shards that an actor works on at a time, on that storage
    python jobs/bench.py calibration --cases text-4000 rotation   # the gate's verdicts against what then happens
    python jobs/bench.py suspicions                               # when doctor suspects two models in one gallery
    python jobs/bench.py growth                                   # to 10 million rows; needs 25 GB of disk

Every figure is one of the machine it was measured on; compare ratios, and only those of one run.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from fct_ray.bench.calibration import CalibrationSettings, run_calibration
from fct_ray.bench.calibration_report import calibration_plot, calibration_table
from fct_ray.bench.figures import figures_json
from fct_ray.bench.growth import GrowthSettings, run_growth
from fct_ray.bench.growth_report import growth_json, growth_plot, growth_tables
from fct_ray.bench.one_actor import OneActorSettings, one_actor_table, run_one_actor
from fct_ray.bench.overlap import OverlapSettings, overlap_table, run_overlap
from fct_ray.bench.sharding import ShardingSettings, run_sharding, sharding_table
from fct_ray.bench.suspicions import SuspicionSettings, run_suspicions, suspicions_table
from fct_ray.bench.throughput import ThroughputSettings, run_throughput
from fct_ray.bench.throughput_report import throughput_json, throughput_table
from fct_ray.cli.command_line import run_job
from fct_ray.cli.console import print_table
from fct_ray.storage import objects


@dataclass(frozen=True, kw_only=True)
class Throughput(ThroughputSettings):
    """Rows a second of several pipelines, in turns on the same data."""

    output: str = ".data/bench/throughput.json"
    """Where the figures go."""


@dataclass(frozen=True, kw_only=True)
class Growth(GrowthSettings):
    """What more rows and more shards cost, and what that says of galleries too large to run here."""

    output: str = ".data/bench/growth.json"
    """Where the figures go; the plot lies beside it."""


@dataclass(frozen=True, kw_only=True)
class Sharding(ShardingSettings):
    """What a sharded index costs against one FAISS index of the same type: recall and latency."""

    output: str = ".data/bench/sharding.json"
    """Where the figures go."""


@dataclass(frozen=True, kw_only=True)
class Calibration(CalibrationSettings):
    """The gate's verdicts on galleries whose truth is known, against what then happens."""

    output: str = ".data/bench/calibration.json"
    """Where the figures go; the plot lies beside it."""


@dataclass(frozen=True, kw_only=True)
class OneActor(OneActorSettings):
    """h alone, host memory in and out, against the roof of its chip and its link."""

    output: str = ".data/bench/one_actor.json"
    """Where the figures go."""


@dataclass(frozen=True, kw_only=True)
class Overlap(OverlapSettings):
    """How many shards an actor should work on at a time, on a storage."""

    output: str = ".data/bench/overlap.json"
    """Where the figures go."""


@dataclass(frozen=True, kw_only=True)
class Suspicion(SuspicionSettings):
    """How often doctor suspects two models in one gallery, by kind of gallery and share of the second model."""

    output: str = ".data/bench/suspicions.json"
    """Where the figures go."""


def throughput(settings: Throughput) -> None:
    """All pipelines on the same data, in turns."""
    result = run_throughput(settings)
    print_table(throughput_table(result))
    _write(settings.output, throughput_json(result))


def growth(settings: Growth) -> None:
    """Run sizes, fit a model, check it on a larger run, forecast."""
    result = run_growth(settings)
    for table in growth_tables(result):
        print_table(table)
    objects.write_bytes(_absolute(settings.output).removesuffix(".json") + ".png", growth_plot(result))
    _write(settings.output, growth_json(result))


def sharding(settings: Sharding) -> None:
    """Build and search every type, whole and in shards."""
    results = run_sharding(settings)
    print_table(sharding_table(results, settings))
    _write(settings.output, figures_json(settings, {"runs": [dataclasses.asdict(result) for result in results]}))


def calibration(settings: Calibration) -> None:
    """Upgrade every case by every kind of evidence."""
    outcomes = run_calibration(settings)
    print_table(calibration_table(outcomes))
    objects.write_bytes(_absolute(settings.output).removesuffix(".json") + ".png", calibration_plot(outcomes))
    _write(settings.output, figures_json(settings, {"runs": [dataclasses.asdict(one) for one in outcomes]}))


def suspicions(settings: Suspicion) -> None:
    """Judge galleries by one model and by two."""
    results = run_suspicions(settings)
    print_table(suspicions_table(results))
    _write(settings.output, figures_json(settings, {"runs": [dataclasses.asdict(one) for one in results]}))


def one_actor(settings: OneActor) -> None:
    """The transformation alone, in every precision and batch size."""
    runs = run_one_actor(settings)
    print_table(one_actor_table(runs, settings))
    _write(settings.output, figures_json(settings, {"runs": [dataclasses.asdict(run) for run in runs]}))


def overlap(settings: Overlap) -> None:
    """The streaming stage with every number of shards at a time."""
    results = run_overlap(settings)
    print_table(overlap_table(results, settings))
    _write(settings.output, figures_json(settings, {"runs": [dataclasses.asdict(one) for one in results]}))


def _write(output: str, data: bytes) -> None:
    uri = _absolute(output)
    objects.write_bytes(uri, data)
    print(f"\nreport: {uri}", flush=True)


def _absolute(output: str) -> str:
    return output if "://" in output else str(Path(output).absolute())


if __name__ == "__main__":
    run_job(
        {
            "throughput": (Throughput, throughput),
            "growth": (Growth, growth),
            "sharding": (Sharding, sharding),
            "calibration": (Calibration, calibration),
            "suspicions": (Suspicion, suspicions),
            "one_actor": (OneActor, one_actor),
            "overlap": (Overlap, overlap),
        },
        __doc__ or "",
    )
