"""Arrow tables out of Parquet bytes that nobody vouches for.

Owns: what makes a file unreadable, and the bound on what a damaged or malicious footer may claim. Knows no columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FormatError

MAX_VALUES_PER_BYTE, LEAST_MAX_VALUES = 64, 1 << 24
"""A file that claims more values is refused unread: it would unfold to hundreds of times its size. Vectors have less than
one value per byte; the second number leaves room for small files of equal values."""
NESTED_ROWS = 8192
"""Rows that are read at once where nested columns are too large for one array."""
PARQUET_ERRORS = (pa.ArrowException, OSError, MemoryError, ValueError, TypeError, LookupError)
"""What pyarrow raises on damaged files; the last three come from names that are no text, and from extension types."""


def read_parquet_bytes(data: bytes, uri: str) -> pa.Table:
    """The table in Parquet `data`. Raises FormatError naming `uri`."""
    return read_parquet(pa.BufferReader(data), uri)


def read_parquet(
    source: pa.NativeFile, uri: str, columns: list[str] | None = None, groups: Sequence[int] | None = None
) -> pa.Table:
    """The table in an open Parquet file, or those of `columns` that it has, or these row groups of it.

    Raises:
        FormatError: it cannot be read; names `uri`.
    """
    try:
        file = pq.ParquetFile(source)
        _check_claims(file, source.size(), uri)
        table = _read(file, columns, groups)
        _ = table.column_names  # decodes them: they may not be UTF-8
    except PARQUET_ERRORS as error:
        raise FormatError(
            f"{uri}: not a readable Parquet file ({error!s:.500}). If it speaks of list sizes, a row of a fixed_size_list is "
            "null: embed that item or remove it; otherwise write or copy the file again"
        ) from error
    return table


def _read(file: pq.ParquetFile, columns: list[str] | None, groups: Sequence[int] | None) -> pa.Table:
    chosen = list(range(file.num_row_groups)) if groups is None else list(groups)
    try:
        return file.read(columns=columns) if groups is None else file.read_row_groups(chosen, columns=columns)
    except pa.ArrowNotImplementedError:  # nested text above 2 GB in one row group: a few rows at a time stay below
        batches = file.iter_batches(batch_size=NESTED_ROWS, row_groups=chosen, columns=columns)
        return pa.Table.from_batches(batches)


def _check_claims(file: pq.ParquetFile, num_bytes: int, uri: str) -> None:
    # Rows only: metadata.row_group(n).column(m) of a damaged footer ends the process (pyarrow 25, uncaught C++ exception).
    metadata, kinds = file.metadata, file.schema_arrow.types
    rows = [metadata.num_rows, *(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))]
    values = sum(max(kind.list_size, 1) if pa.types.is_fixed_size_list(kind) else 1 for kind in kinds) * max(rows)
    most = max(MAX_VALUES_PER_BYTE * num_bytes, LEAST_MAX_VALUES)
    if min(rows) < 0 or values > most:
        raise FormatError(
            f"{uri}: its footer claims row counts of {min(rows):,} to {max(rows):,}, {values:,} values in {num_bytes:,} "
            f"bytes; wanted 0 to {most:,} values. Is the file damaged? Copy or write it again"
        )
