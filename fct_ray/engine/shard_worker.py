"""What an actor does with one shard: get embeddings (by h or by an encoder), write them, index them, sign a receipt.

Owns: the order of effects around one shard; outputs are durable before the receipt exists. Two workers differ only in
where embeddings come from: `TransformWorker` reads a stored shard and applies h, `EmbedWorker` reads raw items and
applies encoders. Units: rows; bytes as stored.

    read ---> embeddings_NW ---+--> Parquet --> write --+--> receipt
                               +--> FAISS   --> write --+
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch

from fct_ray.engine.actor_pool import answered
from fct_ray.engine.meters import ProcessMeter, peak_memory_bytes
from fct_ray.engine.model_store import load_model, open_encoder
from fct_ray.engine.transforming import TransformRunner
from fct_ray.index import build
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, objects, shards
from fct_ray.storage.store import Store
from fct_ray.values import Metric, ObjectRef, Provenance, Receipt, ShardRecord, Usage

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputJob:
    """What is the same for every shard that a run writes."""

    store_uri: str
    version: int
    run: str
    metric: Metric
    dimension: int
    index_factory: str | None
    """None: the version has no index, and is searched exactly."""
    trained_path: str | None
    threads: int


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


class ShardWriter:
    """Writes one shard's Parquet object, FAISS file and receipt."""

    def __init__(self, job: OutputJob) -> None:
        """Load the trained index once per actor."""
        torch.set_num_threads(job.threads)
        build.set_num_threads(job.threads)
        self.job, self.store = job, Store(job.store_uri)
        self.template = None if job.trained_path is None else objects.read_bytes(self.store.uri_of(job.trained_path))
        self.threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")
        self.meter = ProcessMeter(include_startup=True)

    def commit(
        self,
        shard: int,
        ids_N: npt.NDArray[np.int64],
        embeddings_NW: FloatArray,
        table: pa.Table,
        *,
        provenance: Provenance,
        input_sha256: str | None,
        usage: Usage,
        started_at: float,
    ) -> Receipt:
        """Write Parquet (in a side thread) and FAISS, then the receipt; `usage` is what producing them took so far."""
        job = self.job
        parquet = self.threads.submit(self._write, self.store.shard_path(job.version, shard), table)
        index = None if job.index_factory is None else self._index(shard, ids_N, embeddings_NW, job.index_factory)
        embeddings = parquet.result()
        rows = len(ids_N)
        record = ShardRecord(
            shard=shard,
            embeddings=embeddings,
            index=index,
            rows=rows,
            id_min=int(ids_N.min()),
            id_max=int(ids_N.max()),
            provenance=provenance,
            counts={provenance.value: rows},
            input_sha256=input_sha256,
        )
        written = embeddings.bytes + (0 if index is None else index.bytes)
        usage = usage + self.meter.read() + Usage(rows=rows, bytes_written=written)
        worker = f"{ray.get_runtime_context().get_node_id()[:12]}:{os.getpid()}"
        receipt = Receipt(
            run=job.run,
            record=record,
            usage=usage,
            peak_memory_bytes=peak_memory_bytes(),
            worker=worker,
            started_at=started_at,
            ended_at=time.time(),
        )
        self.store.write_receipt(job.version, receipt)
        return receipt

    def _index(
        self, shard: int, ids_N: npt.NDArray[np.int64], embeddings_NW: FloatArray, index_factory: str
    ) -> ObjectRef:
        builder = build.ShardIndexBuilder(self.template, index_factory, self.job.dimension, self.job.metric)
        builder.add(ids_N, embeddings_NW)
        return self._put(self.store.index_path(self.job.version, shard), builder.finish())

    def _write(self, path: str, table: pa.Table) -> ObjectRef:
        return self._put(path, shards.encode_table(table))

    def _put(self, path: str, data: bytes) -> ObjectRef:
        size, sha256 = objects.write_bytes(self.store.uri_of(path), data)
        return ObjectRef(path=path, bytes=size, sha256=sha256)


class TransformWorker:
    """Ray Data actor: a stored shard in, a transformed shard out."""

    def __init__(self, job: TransformJob) -> None:
        """Load h once per actor."""
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


def done(receipt: Receipt) -> dict[str, str]:
    """What an actor answers about a shard: a line for the progress bar."""
    return {"done": f"shard {receipt.record.shard}, {receipt.record.rows:,} rows"}
