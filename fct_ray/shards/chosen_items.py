"""A few chosen items through encoders, whose vectors go back to the driver: pairs, queries, a sample to train an index.

Owns: the worker. Whole shards go through `embedded_shard`, where vectors never leave the worker. Legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from fct_ray.metering.meters import process_meter
from fct_ray.models.batch_encoder import BatchEncoder, encode_metered
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.sources.items import Items
from fct_ray.sources.listing import ListedSource, Listing, spans_from_bytes
from fct_ray.sources.registry import open_reader
from fct_ray.sources.views import Cut
from fct_ray.values import Usage


class EncodeWorker:
    """A pool's worker: items in, (position, id, label, an embedding by each encoder, usage) out, as one Arrow stream."""

    def __init__(
        self, source: ListedSource, encoder_uris: tuple[EncoderSpec, ...], threads: int, cut: Cut | None = None
    ) -> None:
        """Open reader and encoders once per actor; `cut` makes another view of items, where that is to be embedded."""
        torch.set_num_threads(threads)
        self.source, self.reader, self.cut = source, open_reader(source.spec), cut
        self.encoders = [open_encoder(uri) for uri in encoder_uris]
        self.meter = process_meter()

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """The position of a first item and the bytes of some spans in, the bytes of one Arrow table out."""
        listing = spans_from_bytes(self.source, task["spans"])
        return {"encoded": _to_bytes(self._encode(int(task["first"]), listing))}

    def _encode(self, first: int, listing: Listing) -> pa.Table:
        read = self.reader.read(listing)
        items = read if self.cut is None else self.cut(read)
        kept_N = np.isin(read.ids_N, items.ids_N)
        num_items = len(items.ids_N)
        busy_cpu_s, busy_gpu_s = np.zeros(num_items), np.zeros(num_items)
        bytes_read, tokens = np.zeros(num_items, dtype=np.int64), np.zeros(num_items, dtype=np.int64)
        columns = {"position": first + np.flatnonzero(kept_N), "id": items.ids_N}
        if "label" in items.carried:
            columns["label"] = items.carried["label"]
        for number, encoder in enumerate(self.encoders):
            embeddings_NW, usage = _encoded(encoder, items)
            columns[f"embedding_{number}"] = vectors_column(embeddings_NW)
            busy_gpu_s[:1] += usage.busy_gpu_s
            tokens[:1] += usage.tokens
        busy_cpu_s[:1], bytes_read[:1] = self.meter.read().busy_cpu_s, items.bytes_read
        used = {"busy_cpu_s": busy_cpu_s, "busy_gpu_s": busy_gpu_s, "bytes_read": bytes_read, "tokens": tokens}
        return pa.table({**columns, **used})


def _encoded(encoder: BatchEncoder, items: Items) -> tuple[npt.NDArray[np.float32], Usage]:
    """Embeddings of the items; an encoder need not take a batch of none."""
    if len(items.ids_N) == 0:
        return np.empty((0, encoder.dimension), dtype=np.float32), Usage()
    return encode_metered(encoder, items.columns)


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
