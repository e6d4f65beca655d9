"""h alone as one actor runs it, host memory in and out, against the roof of its chip and its link, in each precision.

Owns: the roof of one actor (the slower of matrix products and, with a GPU, of copies both ways at once), and how far
bfloat16 is from float32. Nothing is read or written: with storage and an index beside it, see throughput.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fct_ray.bench.dataset import DatasetSettings, make_dataset
from fct_ray.errors import SettingsError
from fct_ray.kinds import Precision
from fct_ray.models.matrix_rate import matrix_rate
from fct_ray.models.transformation_runner import DTYPES, TransformRunner, fast_precision
from fct_ray.report.quantities import count, percent
from fct_ray.report.text_table import Table
from fct_ray.settings import CheckedSettings, Count
from fct_ray.shards.model_directory import load_model
from fct_ray.storage import shards

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
MATRIX_S = 2.0
LINK_BYTES, LINK_ROUNDS = 1 << 28, 10


@dataclass(frozen=True, kw_only=True)
class OneActorSettings(CheckedSettings):
    """h alone, host memory in and out, against the roof of its chip and its link."""

    directory: str = ".data/bench"
    """Where data go."""
    batch_rows: tuple[Count, ...] = (1024, 4096, 16384)
    """Rows at a time; each is tried."""
    precisions: tuple[Precision, ...] = (Precision.FLOAT32, Precision.BFLOAT16)
    """Precisions to try."""
    threads: Count = 1
    """Compute threads of the actor."""
    rounds: Count = 3
    """Measured rounds after one that is thrown away; the median is reported."""
    data: DatasetSettings = field(default_factory=lambda: DatasetSettings(rows=100_000, rows_per_shard=100_000))
    """The data; the first shard is what the actor gets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorRun:
    """One precision at one batch size."""

    precision: Precision
    batch_rows: int
    rows_per_s: float
    chip_rows_per_s: float
    link_rows_per_s: float | None
    """None without a GPU: memory is where the arithmetic is."""
    largest_difference: float
    """The largest difference of any number from the one in float32, in vectors of length 1."""

    @property
    def roof_rows_per_s(self) -> float:
        """What chip and link would allow."""
        return min(self.chip_rows_per_s, self.link_rows_per_s or self.chip_rows_per_s)


def run_one_actor(settings: OneActorSettings) -> list[ActorRun]:
    """Measure every precision at every batch size, in turns.

    Raises:
        SettingsError: no rows, batches, precisions or rounds.
    """
    if min(settings.rounds, settings.threads, len(settings.precisions), *settings.batch_rows) < 1:
        raise SettingsError(f"{settings}: want at least 1 round, thread, precision and row of a batch")
    torch.set_num_threads(settings.threads)
    dataset = make_dataset(settings.directory, settings.data)
    model, (path, *_) = load_model(dataset.transformation), sorted(Path(dataset.shards_directory).iterdir())
    columns = shards.parse_shard(
        path.read_bytes(),
        str(path),
        dimension=settings.data.old_dimension,
        side_dimension=settings.data.side_dimension,
    )
    old_ND, side_NS, rows = columns.embeddings_ND, columns.side_info_NS, len(columns.ids_N)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    link = _link_rows_per_s(settings.data) if device == "cuda" else None
    exact_NW, _ = TransformRunner(model, batch_rows=4096).run(old_ND, side_NS)
    combinations = [(precision, batch) for precision in settings.precisions for batch in settings.batch_rows]
    runners = [TransformRunner(model, batch_rows=batch, precision=precision) for precision, batch in combinations]
    worst = [float(np.abs(runner.run(old_ND, side_NS)[0] - exact_NW).max()) for runner in runners]  # and warm
    taken_s: list[list[float]] = [[] for _ in runners]
    for _ in range(settings.rounds):
        for runner, times in zip(runners, taken_s, strict=True):
            start_s = time.perf_counter()
            runner.run(old_ND, side_NS)
            times.append(time.perf_counter() - start_s)
    chips = {precision: _chip_flops_per_s(precision, device, settings.threads) for precision in settings.precisions}
    return [
        ActorRun(
            precision=precision,
            batch_rows=batch,
            rows_per_s=rows / statistics.median(times),
            chip_rows_per_s=chips[precision] / runners[0].flops_per_row,
            link_rows_per_s=link,
            largest_difference=difference,
        )
        for (precision, batch), times, difference in zip(combinations, taken_s, worst, strict=True)
    ]


def one_actor_table(runs: Sequence[ActorRun], settings: OneActorSettings) -> Table:
    """A line per precision and batch size."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {settings.threads} threads"
    return Table(
        name="one_actor",
        title=f"h of inner width {settings.data.inner:,} on {device}",
        sentence=(
            "Host memory in, host memory out. Chip: square matrix products in that precision, or in float32 where it has no "
            "instructions for it; link: pinned copies both ways at once (none on a CPU). The roof is the slower of both."
        ),
        header=("precision, batch", "rows/s", "chip", "link", "of the roof", "largest difference"),
        rows=tuple(
            (
                f"{run.precision}, {count(run.batch_rows)}",
                f"{run.rows_per_s:,.0f}",
                f"{run.chip_rows_per_s:,.0f}",
                "" if run.link_rows_per_s is None else f"{run.link_rows_per_s:,.0f}",
                percent(run.rows_per_s / run.roof_rows_per_s),
                f"{run.largest_difference:.1e}",
            )
            for run in runs
        ),
    )


def _chip_flops_per_s(precision: Precision, device: str, threads: int) -> float:
    """Matrix products; where bfloat16 has no instructions, those of float32, with which it is emulated."""
    fast = fast_precision(on_gpu=device == "cuda")
    dtype = DTYPES[precision if precision is fast else Precision.FLOAT32]
    return matrix_rate(threads=threads, size=MATRIX_SIZE[device], seconds=MATRIX_S, dtype=dtype, device=device)


def _link_rows_per_s(data: DatasetSettings) -> float:
    """Rows a second that the link could carry: float32 inputs to the GPU while outputs come back, in pinned memory."""
    into, back = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    host_in, host_out = (torch.empty(LINK_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    gpu_in, gpu_out = (torch.empty(LINK_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
    rates = []
    for stream, target, source in ((into, gpu_in, host_in), (back, host_out, gpu_out)):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
            started.record()
            for _ in range(LINK_ROUNDS):
                target.copy_(source, non_blocking=True)
            ended.record()
        rates.append((started, ended))
    torch.cuda.synchronize()
    in_s, out_s = (float(started.elapsed_time(ended)) / 1e3 / (LINK_ROUNDS * LINK_BYTES) for started, ended in rates)
    return 1 / max(4 * (data.old_dimension + data.side_dimension) * in_s, 4 * data.new_dimension * out_s)
