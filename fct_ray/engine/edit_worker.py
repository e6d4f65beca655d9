"""What an actor does with one shard of an edit: copy one in, or write one again without deleted rows.

Owns: only where the rows come from; committing them is `shard_worker.ShardWriter`'s. Vectors, side-information and all
other columns of rows that stay are untouched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.actor_pool import answered
from fct_ray.engine.shard_worker import OutputJob, ShardWriter, done
from fct_ray.storage import documents, shards
from fct_ray.values import Receipt, ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendJob:
    """Appending: objects outside the store become shards of it."""

    output: OutputJob
    side_dimension: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteJob:
    """Deleting: shards of the parent version, without these ids."""

    output: OutputJob
    ids_N: npt.NDArray[np.int64]
    side_dimension: int | None


class _EditWorker:
    """Ray Data actor: a shard's record in, a written shard out."""

    def __init__(self, job: AppendJob | DeleteJob) -> None:
        """Load the trained index once per actor."""
        self.job, self.writer = job, ShardWriter(job.output)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One ShardRecord as JSON in, one line about it out."""
        record = documents.load(ShardRecord, str(batch["descriptor"][0]).encode(), "a shard descriptor")
        return answered(lambda: done(self._rewrite(record)))

    def _kept(self, columns: shards.ShardColumns) -> npt.NDArray[np.bool_]:
        """Which rows stay, bool [N]."""
        return np.ones(len(columns.ids_N), dtype=bool)

    def _rewrite(self, record: ShardRecord) -> Receipt:
        started_at = time.time()
        data = self.writer.store.read(record.embeddings)
        columns = shards.parse_shard(
            data,
            self.writer.store.uri_of(record.embeddings.path),
            dimension=self.job.output.dimension,
            side_dimension=self.job.side_dimension,
        )
        kept_N = self._kept(columns)
        embeddings_ND = columns.embeddings_ND[kept_N]
        return self.writer.commit(
            record.shard,
            columns.ids_N[kept_N],
            embeddings_ND,
            shards.with_embeddings(columns.table.filter(pa.array(kept_N)), embeddings_ND),
            provenance=record.provenance,
            input_sha256=record.embeddings.sha256,
            usage=Usage(bytes_read=len(data)),
            started_at=started_at,
        )


class AppendWorker(_EditWorker):
    """Copies an object into the store as a shard."""


class DeleteWorker(_EditWorker):
    """Writes a shard again without the deleted rows."""

    def _kept(self, columns: shards.ShardColumns) -> npt.NDArray[np.bool_]:
        assert isinstance(self.job, DeleteJob)  # noqa: S101 (constructed so by the edit)
        return ~np.isin(columns.ids_N, self.job.ids_N)
