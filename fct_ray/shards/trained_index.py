"""Training a version's shared quantizer on a sample of the vectors that its shards will hold. Runs in a Ray task.

    an upgrade    rows of stored shards --> h --> train --> the empty index, written
    a backfill        embeddings of a sample ---> train --> the empty index, written

Owns: reading the sample, applying h, training, recording what that took. Which rows are sampled is decided in
`workflows/trained_index`. Legend: S rows of the sample, W their dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.index import build
from fct_ray.kinds import Metric, Precision
from fct_ray.metering.meters import process_meter
from fct_ray.shards.stored_rows import ShardSelection, select_rows
from fct_ray.shards.version_vectors import VersionVectors
from fct_ray.storage import objects, usage_records
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, Usage

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """Which index is trained, where it is written, and in which run's usage the work is recorded."""

    store_uri: str
    path: str
    """The trained index, relative to the store."""
    run: str
    index_factory: str
    metric: Metric
    seed: int


def train_on_vectors(job: TrainingJob, sample_SW: FloatArray) -> ObjectRef:
    """Train on these vectors and write the empty index; the work is recorded as a part of the stage "stream"."""
    return _train(job, sample_SW, Usage())


def train_on_transformed(
    job: TrainingJob,
    selections: list[ShardSelection],
    transformation_uri: str,
    precision: Precision,
    batch_rows: int,
) -> ObjectRef:
    """Train on the version's vectors of the selected rows and write the empty index; the work is recorded likewise."""
    version = VersionVectors(transformation_uri, batch_rows=batch_rows, precision=precision)
    parts, usage = [], Usage()
    for selection in selections:
        table, read = select_rows(selection)
        old, side = (
            table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            if name in table.column_names
            else None
            for name in ("old", "side")
        )
        assert old is not None  # noqa: S101 (select_rows always gives it)
        made = version.of_rows(table["id"].to_numpy(), old, side)
        parts.append(made.vectors_NV)
        usage = usage + made.usage + read.replace(rows=0)  # rows of the stage are rows written
    return _train(job, np.concatenate(parts), usage)


def _train(job: TrainingJob, sample_SW: FloatArray, usage: Usage) -> ObjectRef:
    store = Store(job.store_uri)
    trained = build.train_index(job.index_factory, sample_SW.shape[1], job.metric, sample_SW, job.seed)
    usage = usage + process_meter().read() + Usage(bytes_written=len(trained))
    usage_records.write_part(store, job.run, "stream", "training", usage)
    num_bytes, sha256 = objects.write_bytes(store.uri_of(job.path), trained)
    return ObjectRef(path=job.path, bytes=num_bytes, sha256=sha256)
