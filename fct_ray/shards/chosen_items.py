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

from fct_ray.metering.meters import ProcessMeter
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.sources.registry import open_source


class EncodeWorker:
    """A pool's worker: positions in, (position, id, an embedding by each encoder, usage) out, as one Arrow stream."""

    def __init__(self, source_spec: str, encoder_uris: tuple[EncoderSpec, ...], threads: int) -> None:
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


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
