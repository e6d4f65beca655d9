"""Embedding chosen items of a source: for pairs, for queries, for training an index. Results come back to the driver.

Owns: the actor pool around an encoder. For whole galleries use the full backfill, whose vectors never visit the driver.
Legend: N items, W dimensions of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.actor_pool import PoolSettings, run_pool
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.progress import bar
from fct_ray.shards.chosen_items import EncodeWorker
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.model_directory import open_encoder
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


def encode_items(
    source_spec: str,
    encoder_uris: tuple[EncoderSpec, ...],
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


def _in_order(
    table: pa.Table, positions_N: npt.NDArray[np.int64], source_spec: str, encoder_uris: tuple[EncoderSpec, ...]
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
