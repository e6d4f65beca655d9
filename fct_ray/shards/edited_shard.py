"""One shard of an edit: an object copied in, or a shard written again without deleted rows. Runs in Ray tasks.

Owns: only where the rows come from; `shard_output` commits them. Vectors, side-information and all other columns
of rows that stay are untouched.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.shards.shard_output import OutputJob, ShardWriter
from fct_ray.storage import quarantine, shards
from fct_ray.values import ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class EditJob:
    """What is the same for every shard of an edit."""

    output: OutputJob
    side_dimension: int | None
    deleted_N: npt.NDArray[np.int64] | None = None
    """Rows with these ids are left out. None: all stay."""


def write_edited(record: ShardRecord, job: EditJob) -> Usage:
    """Write a shard with the rows of an object of the store, or of an adopted one; returns what it took."""
    started_at, writer = time.time(), _writer(job.output)
    data = writer.store.read(record.embeddings)
    uri = writer.store.uri_of(record.embeddings.path)
    columns, bad = quarantine.parse_shard(
        data, uri, job.output.on_bad_row, dimension=job.output.dimension, side_dimension=job.side_dimension
    )
    kept_N = np.ones(len(columns.ids_N), dtype=bool)
    if job.deleted_N is not None:
        kept_N = ~np.isin(columns.ids_N, job.deleted_N)
    embeddings_ND = columns.embeddings_ND[kept_N]
    receipt = writer.commit(
        record.shard,
        columns.ids_N[kept_N],
        embeddings_ND,
        shards.with_embeddings(columns.table.filter(pa.array(kept_N)), embeddings_ND),
        provenance=record.provenance,
        input_sha256=record.embeddings.sha256,
        usage=Usage(bytes_read=len(data)),
        started_at=started_at,
        bad_rows=bad,
    )
    return receipt.usage


@functools.lru_cache(maxsize=1)
def _writer(output: OutputJob) -> ShardWriter:
    """One writer, and so one trained index, for all tasks of an edit in a worker process."""
    return ShardWriter(output)
