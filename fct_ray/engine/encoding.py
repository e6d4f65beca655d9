"""Embedding chosen items of a source: for pairs, for queries, for training an index. Results come back to the driver.

Owns: the actor pool around an encoder. For whole galleries use the full backfill, whose vectors never visit the driver.
Legend: N items, W dimensions of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from fct_ray.engine.actor_pool import PoolSettings, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.meters import ProcessMeter
from fct_ray.engine.model_store import open_encoder
from fct_ray.engine.progress import bar
from fct_ray.engine.shard_reading import vectors_column
from fct_ray.sources.registry import open_source
from fct_ray.values import Usage

CHUNK_ROWS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedItems:
    """Items with their embeddings by each encoder, in the order asked for."""

    ids_N: npt.NDArray[np.int64]
    embeddings: tuple[npt.NDArray[np.float32], ...]
    """float32 [N, W] for each encoder, in the order asked for."""
    labels_N: npt.NDArray[np.int64] | None
    usage: Usage


class EncodeWorker:
    """A pool's worker: positions in, (position, id, an embedding by each encoder, usage) out, as one Arrow stream."""

    def __init__(self, source_spec: str, encoder_uris: tuple[str, ...], threads: int) -> None:
        """Open source and encoders once per actor."""
        torch.set_num_threads(threads)
        self.source, self.encoders = open_source(source_spec), [open_encoder(uri) for uri in encoder_uris]
        self.meter = ProcessMeter(include_startup=True)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """One chunk of positions (bytes of int64) in, the bytes of one Arrow table out."""
        positions_N = np.frombuffer(task["positions"], dtype=np.int64)
        return {"encoded": _to_bytes(self._encode(positions_N))}

    def _encode(self, positions_N: npt.NDArray[np.int64]) -> pa.Table:
        items = self.source.read(positions_N)
        busy_cpu_s = np.zeros(len(positions_N))
        bytes_read = np.zeros(len(positions_N), dtype=np.int64)
        columns = {"position": positions_N, "id": items.ids_N}
        for number, encoder in enumerate(self.encoders):
            columns[f"embedding_{number}"] = vectors_column(encoder.encode(items.columns))
        busy_cpu_s[0], bytes_read[0] = self.meter.read().busy_cpu_s, items.bytes_read
        return pa.table({**columns, "busy_cpu_s": busy_cpu_s, "bytes_read": bytes_read})


def encode_items(
    source_spec: str,
    encoder_uris: tuple[str, ...],
    positions_N: npt.NDArray[np.int64],
    *,
    pool: PoolSettings,
    size: ClusterSize,
    describe: str,
) -> EncodedItems:
    """Embed the items at these positions of the source with each encoder; `usage` is what the workers used.

    Raises:
        FctRayError: what a worker raised (an unreadable item, a damaged model).
    """
    chunks = [positions_N[start : start + CHUNK_ROWS] for start in range(0, len(positions_N), CHUNK_ROWS)]
    tasks = [{"positions": np.ascontiguousarray(chunk, dtype=np.int64).tobytes()} for chunk in chunks]
    arguments, tables = (source_spec, encoder_uris, pool.threads), []
    with bar(len(positions_N), describe, "item") as shown:
        for answer in run_pool(tasks, EncodeWorker, arguments, pool=pool, size=size):
            tables.append(pa.ipc.open_stream(answer["encoded"]).read_all())
            shown.update(len(tables[-1]))
    return _in_order(pa.concat_tables(tables), positions_N, source_spec, encoder_uris)


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _in_order(
    table: pa.Table, positions_N: npt.NDArray[np.int64], source_spec: str, encoder_uris: tuple[str, ...]
) -> EncodedItems:
    order = np.argsort(table["position"].to_numpy(), kind="stable")
    back = np.empty(len(order), dtype=np.int64)
    back[np.argsort(positions_N, kind="stable")] = order
    labels = open_source(source_spec).labels_N
    usage = Usage(
        busy_cpu_s=float(np.sum(table["busy_cpu_s"].to_numpy())),
        bytes_read=int(np.sum(table["bytes_read"].to_numpy())),
        flops=sum(open_encoder(uri).flops_per_item for uri in encoder_uris) * len(positions_N),
        rows=len(positions_N),
    )
    return EncodedItems(
        ids_N=table["id"].to_numpy()[back],
        embeddings=tuple(_matrix(table, f"embedding_{number}")[back] for number in range(len(encoder_uris))),
        labels_N=None if labels is None else labels[positions_N],
        usage=usage,
    )


def _matrix(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    column = table[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(len(table), -1), dtype=np.float32)
