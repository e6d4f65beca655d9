"""One stored shard through the transformation h, then written and indexed.

Owns: reading the shard, applying h, leaving out rows that cannot be used, and counting those that hold a true vector.
`version_vectors` makes the vectors, `shard_output` commits what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from fct_ray.key_types import KEY
from fct_ray.kinds import Precision, Provenance
from fct_ray.shards.shard_output import OutputJob, ShardWriter, done
from fct_ray.shards.version_vectors import VersionVectors
from fct_ray.storage import documents, quarantine, shards
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading, read_record
from fct_ray.values import Receipt, ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformJob:
    """An upgrade's stream: every shard of the parent version through the model at `transformation_uri`."""

    output: OutputJob
    transformation_uri: str
    precision: Precision
    old_dimension: int
    side_dimension: int | None
    batch_rows: int
    reading: Reading = STORE_FORMAT
    """How the shards of the parent version are read."""


class TransformWorker:
    """A pool's worker: a stored shard in, a transformed shard out."""

    def __init__(self, job: TransformJob) -> None:
        """Load h once per actor."""
        self.job, self.writer = job, ShardWriter(job.output)
        self.vectors = VersionVectors(job.transformation_uri, batch_rows=job.batch_rows, precision=job.precision)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """One descriptor (a ShardRecord of the parent as JSON) in, one line about it out."""
        record = documents.load(ShardRecord, str(task["descriptor"]).encode(), "a shard descriptor")
        return done(self._transform(record))

    def _transform(self, record: ShardRecord) -> Receipt:
        started_at = time.time()
        seen = read_record(
            self.writer.store,
            record,
            self.job.reading,
            self.job.output.on_bad_row,
            dimension=self.job.old_dimension,
            side_dimension=self.job.side_dimension,
        )
        columns, bad = seen.columns, seen.bad
        known = self.vectors.known(columns.ids_N, columns.embeddings_ND)
        with self.writer.computing:
            torch.set_num_threads(self.job.output.threads)  # of this thread, too
            made = self.vectors.make(columns.embeddings_ND, columns.side_info_NS, known)
        ids_N, table, new_NW, true_N = columns.ids_N, columns.table, made.vectors_NV, made.true_N
        good_N = quarantine.finite(new_NW)
        if not good_N.all():
            keys = None if self.job.reading.keys is None else table[KEY].combine_chunks()
            bad = quarantine.not_finite(ids_N, bad, good_N, "h", seen.uri, self.job.output.on_bad_row, keys=keys)
            ids_N, new_NW, true_N = ids_N[good_N], new_NW[good_N], true_N[good_N]
            table = table.filter(pa.array(good_N))
        num_true = int(true_N.sum())
        return self.writer.commit(
            record.shard,
            ids_N,
            new_NW,
            shards.with_embeddings(table, new_NW),
            counts={Provenance.TRANSFORMED: len(ids_N) - num_true, Provenance.EMBEDDED: num_true},
            input_sha256=record.embeddings.sha256,
            usage=made.usage + Usage(bytes_read=seen.num_bytes),
            started_at=started_at,
            bad_rows=bad,
        )
