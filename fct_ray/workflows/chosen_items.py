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
from fct_ray.sources.items import Source
from fct_ray.sources.listing import spans_to_bytes
from fct_ray.sources.views import Cut
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
    source: Source,
    encoder_uris: tuple[EncoderSpec, ...],
    positions_N: npt.NDArray[np.int64],
    *,
    pool: PoolSettings,
    size: ClusterSize,
    describe: str,
    cut: Cut | None = None,
) -> EncodedItems:
    """Embed the items at these positions of the source with each encoder; `usage` is what the workers used.

    With `cut` another view of them is embedded; those that have none are left out. Each task carries where its items lie
    and in which version, so workers list nothing.

    Raises:
        FctRayError: what a worker raised (an unreadable item, one that was changed since it was listed, a damaged model).
    """
    starts = range(0, len(positions_N), CHUNK_ROWS)
    chunks = [source.listing.take(positions_N[start : start + CHUNK_ROWS]) for start in starts]
    tasks = [{"first": start, "spans": spans_to_bytes(chunk)} for start, chunk in zip(starts, chunks, strict=True)]
    arguments, tables = (source.listing.source, encoder_uris, pool.threads, cut), []
    names = [f"items {start:,} to {start + CHUNK_ROWS - 1:,}" for start in starts]
    with bar(len(positions_N), describe, "item") as shown:
        for answer in run_pool(tasks, EncodeWorker, arguments, names=names, pool=pool, size=size):
            tables.append(pa.ipc.open_stream(answer["encoded"]).read_all())
            shown.update(len(tables[-1]))
    return _in_order(pa.concat_tables(tables), encoder_uris)


def _in_order(table: pa.Table, encoder_uris: tuple[EncoderSpec, ...]) -> EncodedItems:
    table = table.sort_by("position")
    usage = Usage(
        busy_cpu_s=float(np.sum(table["busy_cpu_s"].to_numpy())),
        busy_gpu_s=float(np.sum(table["busy_gpu_s"].to_numpy())),
        bytes_read=int(np.sum(table["bytes_read"].to_numpy())),
        tokens=int(np.sum(table["tokens"].to_numpy())),
        flops=sum(open_encoder(uri).flops_per_item for uri in encoder_uris) * len(table),
        rows=len(table),
    )
    return EncodedItems(
        ids_N=table["id"].to_numpy(),
        embeddings=tuple(_matrix(table, f"embedding_{number}") for number in range(len(encoder_uris))),
        labels_N=table["label"].to_numpy() if "label" in table.column_names else None,
        usage=usage,
    )


def _matrix(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    column = table[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(len(table), column.type.list_size), dtype=np.float32)
