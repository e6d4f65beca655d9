"""Parts of Parquet objects: runs of whole row groups, which lie in the object without a gap.

    |magic| group 0 | group 1 | group 2 | group 3 |footer|
          '------ a part -----'---- another part --'        each part: its rows, its bytes

Owns: where the row groups of an object lie, and reading a part with the footer and no other byte. Knows no columns and no
stores. How an object is cut is decided in `plan/portions`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FormatError
from fct_ray.storage import objects, pairs
from fct_ray.storage.parquet_tables import PARQUET_ERRORS, read_parquet
from fct_ray.values import RowGroups

Span = tuple[int, int]
BATCH_ROWS, STREAM_BYTES = 4096, 4 << 20
"""Rows, and bytes of each column, that are read at once of a row group that is cut into slices."""


def row_groups(uri: str) -> list[RowGroups]:
    """The row groups of an object that have rows, in order; only its footer is read.

    Never for objects that may be damaged on a process that must live: pyarrow ends it for some damaged footers.

    Raises:
        NotFoundError: there is no such object.
        FormatError: not a Parquet file, or its row groups do not follow one another.
    """
    with _Bytes(uri, (0, 0)) as source:
        try:
            metadata = pq.ParquetFile(pa.PythonFile(source, mode="r")).metadata
            groups = [_row_group(metadata, number) for number in range(metadata.num_row_groups)]
        except PARQUET_ERRORS as error:
            raise FormatError(f"{uri}: not a readable Parquet file ({error!s:.500}). Write or copy it again") from error
    starts = accumulate((rows for rows, _, _ in groups), initial=0)
    found = [
        RowGroups(rows=(start, start + rows), byte_range=span, loaded_bytes=loaded)
        for start, (rows, span, loaded) in zip(starts, groups, strict=False)
        if rows
    ]
    for one, other in pairwise(found):
        if one.byte_range[1] > other.byte_range[0]:
            raise FormatError(
                f"{uri}: its row groups at rows {one.rows[0]:,} and {other.rows[0]:,} overlap in the file, so it cannot be "
                f"read in parts. Write it again: {rewriting(uri, 100_000)}"
            )
    return found


def read_part(uri: str, rows: Span, byte_range: Span, data: bytes | None, columns: list[str] | None = None) -> pa.Table:
    """The rows [start, stop) of an object, which are whole row groups in `byte_range`.

    `data` are the bytes of that range, where they were read already (None: pages are read as they are needed).

    Raises:
        FormatError: the object has no such row groups there: it was replaced.
    """
    with _Bytes(uri, byte_range, data) as source:
        file = pa.PythonFile(source, mode="r")
        try:
            metadata = pq.ParquetFile(file).metadata
            counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        except PARQUET_ERRORS as error:
            raise FormatError(f"{uri}: not a readable Parquet file ({error!s:.500}). Write or copy it again") from error
        starts = list(accumulate(counts, initial=0))
        groups = [
            number
            for number, (start, stop) in enumerate(pairwise(starts))
            if start < stop and rows[0] <= start and stop <= rows[1]
        ]
        table = read_parquet(file, uri, columns, groups)
    if table.num_rows != rows[1] - rows[0]:
        raise _replaced(uri, rows)
    return table


def slices(uri: str, rows: Span, rows_per_slice: int) -> Iterator[pa.Table]:
    """The rows [start, stop) of an object, which are one row group, as tables of so many rows: one is in memory at a time.

    Raises:
        FormatError: there is no such row group, or it is not readable.
    """
    with pairs.opened(uri) as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=STREAM_BYTES)
            counts = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            starts = list(accumulate(counts, initial=0))
            groups = [at for at, span in enumerate(pairwise(starts)) if span == rows]
            held: list[pa.RecordBatch] = []
            for batch in parquet.iter_batches(min(BATCH_ROWS, rows_per_slice), row_groups=groups, use_threads=False):
                held.append(batch)
                if sum(len(one) for one in held) >= rows_per_slice:
                    table = pa.Table.from_batches(held)
                    yield table.slice(0, rows_per_slice)
                    rest = table.slice(rows_per_slice)
                    held = rest.to_batches()
            if held:
                yield pa.Table.from_batches(held)
        except PARQUET_ERRORS as error:
            raise FormatError(f"{uri}: not a readable Parquet file ({error!s:.500}). Write or copy it again") from error
    if not groups:
        raise _replaced(uri, rows)


def rewriting(uri: str, rows: int) -> str:
    """Python that writes an object again in row groups of so many rows, with little memory."""
    path = objects.absolute(uri)
    return (
        f"import pyarrow.parquet as pq; f = pq.ParquetFile({path!r}, pre_buffer=False, buffer_size=1 << 20); "
        f"w = pq.ParquetWriter('SMALLER_GROUPS.parquet', f.schema_arrow); "
        f"[w.write_batch(b) for b in f.iter_batches({rows})]; w.close()"
    )


def _row_group(metadata: pq.FileMetaData, number: int) -> tuple[int, Span, int]:
    group = metadata.row_group(number)
    spans, loaded = [], 0
    for position in range(group.num_columns):
        column = group.column(position)
        first = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
        spans.append((first, first + column.total_compressed_size))
        loaded += max(column.total_uncompressed_size, 4 * column.num_values)  # numbers become float32
    return group.num_rows, (min(first for first, _ in spans), max(last for _, last in spans)), loaded


def _replaced(uri: str, rows: Span) -> FormatError:
    return FormatError(
        f"{uri}: has no row groups with exactly the rows {rows[0]:,} to {rows[1]:,}, as was found before: the object was "
        "replaced after it was adopted; restore it, or roll back (fct-ray store rollback)"
    )


class _Bytes(io.RawIOBase):
    """An object of which one range may be in memory; the rest is read by ranges, as it is asked for."""

    def __init__(self, uri: str, held: Span, data: bytes | None = None) -> None:
        self.uri, self.held, self.data = uri, held, None if data is None else memoryview(data)
        self.length, self.at = objects.size_bytes(uri), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.length}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes | memoryview:  # type: ignore[override] # pyarrow takes any buffer, uncopied
        start = self.at
        stop = self.length if size < 0 else min(self.length, start + size)
        self.at = max(start, stop)
        if self.data is not None and self.held[0] <= start and stop <= self.held[1]:
            return self.data[start - self.held[0] : stop - self.held[0]]
        return objects.read_range(self.uri, start, stop) if stop > start else b""
