"""One shard of an edit: an object copied in, or a shard written again without deleted rows. Runs in Ray tasks.

Owns: only where the rows come from; `shard_output` commits them. Vectors, side-information and all other columns
of rows that stay are untouched.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.kinds import Precision, Provenance
from fct_ray.shards.shard_output import OutputJob, ShardWriter
from fct_ray.shards.true_rows import num_true_rows
from fct_ray.storage import shards
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading, read_record
from fct_ray.values import BadRow, ShardRecord, Usage

if TYPE_CHECKING:
    from fct_ray.models.transformation_runner import TransformRunner


@dataclass(frozen=True, kw_only=True, slots=True)
class Through:
    """The transformation that made a version, through which new items of the model before it go as well."""

    transformation_uri: str
    old_dimension: int
    precision: Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class EditJob:
    """What is the same for every shard of an edit."""

    output: OutputJob
    side_dimension: int | None
    reading: Reading = STORE_FORMAT
    """How the objects are read."""
    deleted_N: npt.NDArray[np.int64] | None = None
    """Rows with these ids are left out. None: all stay."""
    through: Through | None = None
    """What embeddings become on the way in, for a version of joined blocks. None: they stay as they are."""
    model_uri: str | None = None
    """The model directory of the version's transformation, by which rows that are not transformed are counted."""


def write_edited(record: ShardRecord, job: EditJob) -> Usage:
    """Write a shard with the rows of an object of the store, or of an adopted one; returns what it took."""
    started_at, writer = time.time(), writer_of(job.output)
    seen = read_record(
        writer.store,
        record,
        job.reading,
        job.output.on_bad_row,
        dimension=job.output.dimension if job.through is None else job.through.old_dimension,
        side_dimension=job.side_dimension,
    )
    return commit_rows(writer, record, seen.columns, seen.bad, seen.num_bytes, job, started_at)


def commit_rows(
    writer: ShardWriter,
    record: ShardRecord,
    columns: shards.ShardColumns,
    bad: tuple[BadRow, ...],
    num_bytes: int,
    job: EditJob,
    started_at: float,
) -> Usage:
    """Write a shard of these rows but the deleted ones; `record` says what they were read from, in `num_bytes` bytes."""
    kept_N = np.ones(len(columns.ids_N), dtype=bool)
    if job.deleted_N is not None:
        kept_N = ~np.isin(columns.ids_N, job.deleted_N)
    embeddings_ND, used = columns.embeddings_ND[kept_N], Usage(bytes_read=num_bytes)
    if job.through is not None:
        side_NS = None if columns.side_info_NS is None else columns.side_info_NS[kept_N]
        embeddings_ND, flops = _runner(job.through).run(embeddings_ND, side_NS)
        used += flops
    receipt = writer.commit(
        record.shard,
        columns.ids_N[kept_N],
        embeddings_ND,
        shards.with_embeddings(columns.table.filter(pa.array(kept_N)), embeddings_ND),
        counts=_counts(record, job, columns.ids_N[kept_N], embeddings_ND),
        input_sha256=record.embeddings.sha256,
        usage=used,
        started_at=started_at,
        bad_rows=bad,
    )
    return receipt.usage


def _counts(
    record: ShardRecord, job: EditJob, ids_N: npt.NDArray[np.int64], vectors_ND: npt.NDArray[np.float32]
) -> dict[Provenance, int]:
    """How the rows that stay came to be; empty where only the model's true vectors would show it, and they are gone."""
    if job.through is not None:
        return {Provenance.TRANSFORMED: len(ids_N)}
    if record.provenance is not Provenance.MIXED:
        return {record.provenance: len(ids_N)}
    num_true = None if job.model_uri is None else num_true_rows(job.model_uri, ids_N, vectors_ND)
    if num_true is None:
        return {}
    return {Provenance.TRANSFORMED: len(ids_N) - num_true, Provenance.EMBEDDED: num_true}


@functools.lru_cache(maxsize=1)
def _runner(through: Through) -> TransformRunner:
    from fct_ray.models.transformation_runner import TransformRunner
    from fct_ray.shards.model_directory import load_model  # torch: most edits move rows and need none

    return TransformRunner(load_model(through.transformation_uri), batch_rows=4096, precision=through.precision)


@functools.lru_cache(maxsize=1)
def writer_of(output: OutputJob) -> ShardWriter:
    """One writer, and so one trained index, for all tasks of an edit in a worker process."""
    return ShardWriter(output)
