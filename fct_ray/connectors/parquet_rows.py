"""Rows of a Parquet file of somebody else, page by page: a row group may hold all rows of a file, and be larger than memory.

Owns: which row groups a span needs, and that no more than the span (and one batch) is in memory.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.connectors.spans import rows_between

_BATCH_ROWS = 2_048
_BUFFER_BYTES = 1 << 20


def parquet_rows(source: Any, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` (not included) of a Parquet file, which is an open file or a path."""
    with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        groups, first, before = [], 0, 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if before + rows <= start:
                first = before + rows
            elif before < stop:
                groups.append(group)
            before += rows
        batches = file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, use_threads=False)
        return rows_between(batches, start - first, stop - first).combine_chunks()
