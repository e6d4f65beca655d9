"""Rows a second of several pipelines on the same data, in turns (A B C, A B C); their vectors are compared.

Owns: the order of runs and what is compared. A warm-up round comes first and is thrown away. Timings are compared only
within one run: tomorrow the machine may be another one.
"""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from fct_ray.bench.dataset import Dataset, DatasetSettings, make_dataset
from fct_ray.bench.pipeline_process import Measurement, measure
from fct_ray.bench.pipelines import PIPELINES, PipelineJob, is_installed
from fct_ray.bench.roof import Roof, measure_roof
from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.models.flops import transformation_flops
from fct_ray.settings import CheckedSettings, Count, CountOrZero, NumBytes
from fct_ray.shards.model_directory import load_model

logger = logging.getLogger(__name__)
COMPARED_ROWS, TOLERANCE = 1_000, 1e-4
MIN_ROUNDS = 1
OTHER_WORK = ("backfill_small", "backfill_resnet50")  # rows of another size: compared by rate, not by vectors


@dataclass(frozen=True, kw_only=True)
class ThroughputSettings(CheckedSettings):
    """Rows a second of several pipelines, in turns on the same data."""

    directory: str = ".data/bench"
    """Where data and outputs go."""
    pipelines: tuple[str, ...] = ("loop", "ours", "plain_ray_data", "daft")
    """What is compared, ratios against the first. Known:
    loop, durable_loop, ours, ours_whole, plain_ray_data, daft, backfill_small, backfill_resnet50."""
    rounds: Count = 3
    """Measured rounds; the median is reported."""
    warm_up_rows: CountOrZero = 40_000
    """Rows of the round that is thrown away; 0 for none."""
    threads: Count = 2
    """Cores that every pipeline may use."""
    batch_rows: Count = 4096
    """Rows that h transforms at a time."""
    storage_bytes: NumBytes = 1 << 30
    """Size of the file by which the storage rate is measured."""
    index: str = "Flat"
    """FAISS factory string of our index (the loop writes Flat)."""
    data: DatasetSettings = field(default_factory=DatasetSettings)
    """The data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputResult:
    """All measurements, and the roof of the machine in the same run."""

    settings: ThroughputSettings
    roof: Roof
    flops_per_row: float
    measurements: tuple[Measurement, ...]
    largest_difference: dict[str, float]
    """Largest difference of any number between each pipeline's vectors and those of the first, in a sample of rows."""
    left_out: tuple[str, ...]

    def of(self, pipeline: str) -> list[Measurement]:
        """The rounds of one pipeline."""
        return [one for one in self.measurements if one.pipeline == pipeline]

    def rows_per_s(self, pipeline: str) -> float:
        """Median over the rounds."""
        return statistics.median(one.rows_per_s for one in self.of(pipeline))


def run_throughput(settings: ThroughputSettings) -> ThroughputResult:
    """Make the data, warm up, run the rounds, compare the vectors.

    Raises:
        SettingsError: an unknown pipeline.
        IncompleteRunError: one failed, or its vectors or rows differ from the first one's.
    """
    _check(settings)
    present = [name for name in settings.pipelines if is_installed(name)]
    left_out = tuple(name for name in settings.pipelines if name not in present)
    for name in left_out:
        logger.warning("%s is left out: package %s is not installed", name, PIPELINES[name].needs)
    root = Path(settings.directory).absolute()
    if settings.warm_up_rows:
        small = make_dataset(str(root), _smaller(settings.data, settings.warm_up_rows))
        for name in present:
            _run(name, small, settings, root, 0)
    dataset = make_dataset(str(root), settings.data)
    architecture = load_model(dataset.transformation).transformation().architecture
    flops_per_row = transformation_flops(architecture)
    data = settings.data
    roof = measure_roof(
        str(root),
        threads=settings.threads,
        flops_per_row=flops_per_row,
        bytes_per_row=8 + 4 * (data.old_dimension + 2 * data.side_dimension + 2 * data.new_dimension),
        storage_bytes=settings.storage_bytes,
    )
    measurements, differences, reference = [], dict[str, float](), None
    for number in range(1, settings.rounds + 1):
        for name in present:
            output = root / "out" / name
            measurement = _run(name, dataset, settings, root, number)
            logger.info("round %d: %s %s rows/s", number, name, f"{measurement.rows_per_s:,.0f}")
            measurements.append(measurement)
            if number == 1 and measurement.done.embeddings is not None:
                vectors = _sampled(measurement.done.embeddings, data.rows)
                reference = vectors if reference is None else reference
                differences[name] = float(np.abs(vectors - reference).max())
            shutil.rmtree(output, ignore_errors=True)
    wrong = [name for name, value in differences.items() if not value <= TOLERANCE]
    if wrong:
        raise IncompleteRunError(
            f"vectors of {wrong} differ by {[differences[name] for name in wrong]} from those of {present[0]}; want at most "
            f"{TOLERANCE}: the pipelines did not do the same work"
        )
    return ThroughputResult(
        settings=settings,
        roof=roof,
        flops_per_row=flops_per_row,
        measurements=tuple(measurements),
        largest_difference=differences,
        left_out=left_out,
    )


def _check(settings: ThroughputSettings) -> None:
    unknown = [name for name in settings.pipelines if name not in PIPELINES]
    if unknown or not settings.pipelines:
        raise SettingsError(f"pipelines {unknown or '()'}: want some of {', '.join(PIPELINES)}")
    if settings.rounds < MIN_ROUNDS or settings.threads < 1:
        raise SettingsError(f"rounds {settings.rounds}, threads {settings.threads}: want 1 or more of each")


def _smaller(data: DatasetSettings, rows: int) -> DatasetSettings:
    values = asdict(data)
    values |= {"rows": min(rows, data.rows), "num_pairs": min(data.num_pairs, rows // 2)}
    return DatasetSettings(**values)


def _run(name: str, dataset: Dataset, settings: ThroughputSettings, root: Path, number: int) -> Measurement:
    output = root / "out" / name
    job = PipelineJob(
        shards=dataset.shards_directory,
        pairs=dataset.pairs,
        transformation=dataset.transformation,
        rows=dataset.settings.rows,
        output=str(output),
        threads=settings.threads,
        batch_rows=settings.batch_rows,
        index_factory=settings.index,
    )
    measurement = measure(name, job, number)
    if measurement.done.rows != job.rows and name not in OTHER_WORK:
        raise IncompleteRunError(f"{name} wrote {measurement.done.rows:,} rows, want {job.rows:,}")
    return measurement


def _sampled(directory: str, rows: int) -> npt.NDArray[np.float32]:
    """Embeddings of some ids, ascending by id, [COMPARED_ROWS, W]; also checks that each is there once."""
    wanted = np.unique(np.linspace(0, rows - 1, COMPARED_ROWS).astype(np.int64))
    table = pads.dataset(directory, format="parquet").to_table(
        columns=["id", "embedding"], filter=pc.field("id").isin(pa.array(wanted))
    )
    table = table.sort_by("id").combine_chunks()
    if not np.array_equal(table["id"].to_numpy(), wanted):
        raise IncompleteRunError(f"{directory}: {len(table)} of {len(wanted)} sampled ids are there; want each once")
    column = table["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(len(wanted), -1))


def ratios(result: ThroughputResult, baseline: str) -> dict[str, float]:
    """Rows a second of every pipeline over those of one of them."""
    names: Sequence[str] = list(dict.fromkeys(one.pipeline for one in result.measurements))
    return {name: result.rows_per_s(name) / result.rows_per_s(baseline) for name in names}
