"""What an actor does with one shard: get embeddings by h or by an encoder, and commit them.

Owns: where embeddings come from: `TransformWorker` reads a stored shard and applies h, `EmbedWorker` reads raw items and
applies encoders. Both hand over to `shard_writer`. Units: rows; bytes as stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fct_ray.engine.actor_pool import answered
from fct_ray.engine.model_store import load_model, open_encoder
from fct_ray.engine.shard_writer import OutputJob, ShardWriter, done
from fct_ray.engine.transforming import TransformRunner
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, shards
from fct_ray.values import Provenance, Receipt, ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformJob:
    """An upgrade's stream: every shard of the parent version through the model at `transformation_uri`."""

    output: OutputJob
    transformation_uri: str
    old_dimension: int
    side_dimension: int | None
    batch_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedJob:
    """A full backfill's stream: raw items through one encoder, and another for side-information (or None)."""

    output: OutputJob
    source_spec: str
    encoder_uri: str
    side_uri: str | None
    side_dtype: str
    positions_N: npt.NDArray[np.int64] | None = None
    """The items to embed, as positions in the source, in order. None: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedDescriptor:
    """One shard to embed: items [start, stop) of the source, or of the job's positions in it."""

    shard: int
    start: int
    stop: int


class TransformWorker:
    """Ray Data actor: a stored shard in, a transformed shard out."""

    def __init__(self, job: TransformJob) -> None:
        """Load h once per actor."""
        torch.set_num_threads(job.output.threads)
        self.job, self.writer = job, ShardWriter(job.output)
        self.runner = TransformRunner(load_model(job.transformation_uri), batch_rows=job.batch_rows)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One descriptor (a ShardRecord of the parent as JSON) in, one line about it out."""
        record = documents.load(ShardRecord, str(batch["descriptor"][0]).encode(), "a shard descriptor")
        return answered(lambda: done(self._transform(record)))

    def _transform(self, record: ShardRecord) -> Receipt:
        started_at = time.time()
        uri = self.writer.store.uri_of(record.embeddings.path)
        data = self.writer.store.read(record.embeddings)
        columns = shards.parse_shard(
            data, uri, dimension=self.job.old_dimension, side_dimension=self.job.side_dimension
        )
        new_NW, usage = self.runner.run(columns.embeddings_ND, columns.side_info_NS)
        return self.writer.commit(
            record.shard,
            columns.ids_N,
            new_NW,
            shards.with_embeddings(columns.table, new_NW),
            provenance=Provenance.TRANSFORMED,
            input_sha256=record.embeddings.sha256,
            usage=usage + Usage(bytes_read=len(data)),
            started_at=started_at,
        )


class EmbedWorker:
    """Ray Data actor: raw items in, an embedded shard out."""

    def __init__(self, job: EmbedJob) -> None:
        """Load the encoders once per actor."""
        torch.set_num_threads(job.output.threads)
        self.job, self.writer = job, ShardWriter(job.output)
        self.source = open_source(job.source_spec)
        self.encoder = open_encoder(job.encoder_uri)
        self.side = open_encoder(job.side_uri) if job.side_uri is not None else None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One EmbedDescriptor as JSON in, one line about it out."""
        task = documents.load(EmbedDescriptor, str(batch["descriptor"][0]).encode(), "a shard descriptor")
        return answered(lambda: done(self._embed(task)))

    def _embed(self, task: EmbedDescriptor) -> Receipt:
        started_at = time.time()
        chosen = np.arange(task.start, task.stop)
        items = self.source.read(chosen if self.job.positions_N is None else self.job.positions_N[chosen])
        embeddings_NW = self.encoder.encode(items.columns)
        side_NS = self.side.encode(items.columns) if self.side is not None else None
        table = shards.build_table(items.ids_N, embeddings_NW, side_NS, items.carried, side_dtype=self.job.side_dtype)
        flops = self.encoder.flops_per_item + (self.side.flops_per_item if self.side is not None else 0.0)
        return self.writer.commit(
            task.shard,
            items.ids_N,
            embeddings_NW,
            table,
            provenance=Provenance.EMBEDDED,
            input_sha256=None,
            usage=Usage(flops=flops * len(items.ids_N), bytes_read=items.bytes_read),
            started_at=started_at,
        )
