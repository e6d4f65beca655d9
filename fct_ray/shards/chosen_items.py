"""A few chosen items through encoders, whose vectors go back to the driver: pairs, queries, a sample to train an index.

Owns: the worker. Whole shards go through `embedded_shard`, where vectors never leave the worker. Legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fct_ray.metering.meters import process_meter
from fct_ray.models.batch_encoder import encode_metered
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.sources.listing import ListedSource, Listing, spans_from_bytes
from fct_ray.sources.registry import open_reader


class EncodeWorker:
    """A pool's worker: items in, (position, id, label, an embedding by each encoder, usage) out, as one Arrow stream."""

    def __init__(self, source: ListedSource, encoder_uris: tuple[EncoderSpec, ...], threads: int) -> None:
        """Open reader and encoders once per actor."""
        torch.set_num_threads(threads)
        self.source, self.reader = source, open_reader(source.spec)
        self.encoders = [open_encoder(uri) for uri in encoder_uris]
        self.meter = process_meter()

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """The position of a first item and the bytes of some spans in, the bytes of one Arrow table out."""
        listing = spans_from_bytes(self.source, task["spans"])
        return {"encoded": _to_bytes(self._encode(int(task["first"]), listing))}

    def _encode(self, first: int, listing: Listing) -> pa.Table:
        items, num_items = self.reader.read(listing), listing.num_items
        busy_cpu_s, busy_gpu_s = np.zeros(num_items), np.zeros(num_items)
        bytes_read = np.zeros(num_items, dtype=np.int64)
        columns = {"position": np.arange(first, first + num_items), "id": items.ids_N}
        if "label" in items.carried:
            columns["label"] = items.carried["label"]
        for number, encoder in enumerate(self.encoders):
            embeddings_NW, usage = encode_metered(encoder, items.columns)
            columns[f"embedding_{number}"] = vectors_column(embeddings_NW)
            busy_gpu_s[0] += usage.busy_gpu_s
        busy_cpu_s[0], bytes_read[0] = self.meter.read().busy_cpu_s, items.bytes_read
        return pa.table({**columns, "busy_cpu_s": busy_cpu_s, "busy_gpu_s": busy_gpu_s, "bytes_read": bytes_read})


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
