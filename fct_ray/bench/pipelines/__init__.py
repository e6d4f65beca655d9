"""The pipelines that are compared: each does the same work in its own way, in a process of its own.

A pipeline is a function `prepare(job) -> run`: imports and starting a cluster happen in `prepare`, the clock runs
during `run()`, which returns once everything is written.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineJob:
    """What a pipeline is asked to do, and where."""

    shards: str
    """The directory of the data set's Parquet objects."""
    pairs: str
    """The data set's pairs file."""
    transformation: str
    """The model directory of h."""
    rows: int
    """Rows of the data set."""
    output: str
    """An empty directory for what the pipeline writes."""
    threads: int
    """Cores that it may use."""
    batch_rows: int
    """Rows that h transforms at a time."""
    index_factory: str = "Flat"
    """FAISS factory string of the index, where one is built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a pipeline says it did; time, memory and CPU seconds are measured from outside."""

    rows: int
    """Rows written."""
    embeddings: str | None
    """Directory of its Parquet output; None where there is nothing to compare."""
    first_row_s: float | None = None
    """Seconds from the start of the clock until a worker began with its first row."""
    figures: dict[str, float] = field(default_factory=dict)
    """More that only the pipeline knows: seconds of its stages, CPU seconds of its driver."""


Prepare = Callable[[PipelineJob], Callable[[], Done]]
"""Imports and starts what is needed; the returned function does the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where the `prepare` function of a pipeline is, what it needs installed, and what a reader should know about it."""

    module: str
    function: str = "prepare"
    about: str
    needs: str | None = None


PIPELINES = {
    "loop": Entry(module="loop", about="one process, no Ray: pyarrow, torch, faiss; read and write in side threads"),
    "durable_loop": Entry(
        module="loop", function="prepare_durable", about="the same, which hashes and flushes every file as ours does"
    ),
    "ours": Entry(module="upgrade", function="prepare_stage", about="the streaming stage of jobs/upgrade.py"),
    "ours_whole": Entry(
        module="upgrade", function="prepare_whole", about="jobs/upgrade.py --pairs, all stages, its own h"
    ),
    "plain_ray_data": Entry(module="plain_ray_data", about="read_parquet, map_batches actor, write_parquet; no index"),
    "daft": Entry(module="daft_batch", about="Daft's batch UDF, Parquet to Parquet; no index", needs="daft"),
    "backfill_small": Entry(
        module="backfill", function="prepare_small", about="full backfill, the quick start's encoder, 28 px"
    ),
    "backfill_resnet50": Entry(
        module="backfill", function="prepare_resnet50", about="full backfill, ResNet-50 at 224 px"
    ),
}


def is_installed(name: str) -> bool:
    """Whether the packages that a pipeline needs are installed."""
    needs = PIPELINES[name].needs
    return needs is None or importlib.util.find_spec(needs) is not None


def load_pipeline(name: str) -> Prepare:
    """The `prepare` function of a pipeline, with its module imported."""
    entry = PIPELINES[name]
    return cast("Prepare", getattr(importlib.import_module(f"{__name__}.{entry.module}"), entry.function))
