"""The contenders: each does the same work in its own way, in a process of its own.

A contender is a module with `prepare(job) -> run`: imports and starting a cluster happen in `prepare`, the clock runs
during `run()`, which returns once everything is written.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast


@dataclass(frozen=True, kw_only=True, slots=True)
class ContenderJob:
    """What a contender is asked to do, and where."""

    shards: str
    """The directory of the data set's Parquet objects."""
    pairs: str
    """Its pairs file."""
    transformation: str
    """The model directory of h."""
    rows: int
    output: str
    """An empty directory of its own."""
    threads: int
    """Cores that it may use."""
    batch_rows: int
    index_factory: str = "Flat"


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a contender says it did; time, memory and CPU seconds are measured from outside."""

    rows: int
    embeddings: str | None
    """Directory of its Parquet output; None where there is nothing to compare."""
    first_row_s: float | None = None
    """From the start of the clock until a worker began with its first row."""
    figures: dict[str, float] = field(default_factory=dict)
    """More that only it knows: seconds of its stages, CPU seconds of its driver."""


class Contender(Protocol):
    """The module of a contender."""

    def prepare(self, job: ContenderJob) -> Callable[[], Done]:
        """Import and start what is needed; the returned function does the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A contender's module, what it needs installed, and what people should know about it."""

    module: str
    about: str
    needs: str | None = None


CONTENDERS = {
    "loop": Entry(module="loop", about="one process, no Ray: pyarrow, torch, faiss; read and write in side threads"),
    "ours": Entry(module="ours", about="the streaming stage of jobs/upgrade.py"),
    "ours_whole": Entry(module="ours_whole", about="jobs/upgrade.py --pairs, all stages, its own h"),
    "plain_ray_data": Entry(module="plain_ray_data", about="read_parquet, map_batches actor, write_parquet; no index"),
    "daft": Entry(module="daft_batch", about="Daft's batch UDF, Parquet to Parquet; no index", needs="daft"),
    "backfill_small": Entry(module="backfill_small", about="full backfill, the quick start's encoder, 28 px"),
    "backfill_resnet50": Entry(module="backfill_resnet50", about="full backfill, ResNet-50 at 224 px"),
}


def is_installed(name: str) -> bool:
    """Whether the packages that a contender needs are there."""
    needs = CONTENDERS[name].needs
    return needs is None or importlib.util.find_spec(needs) is not None


def load_contender(name: str) -> Contender:
    """The contender's module, imported."""
    return cast("Contender", importlib.import_module(f"{__name__}.{CONTENDERS[name].module}"))
