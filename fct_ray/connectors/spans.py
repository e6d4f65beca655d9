"""Parts that are spans of rows of files, fragments or splits, written as text.

Owns: cutting them so that no part crosses two files, the words that they are kept in, and taking a span out of batches that
come one after the other, so that no more than the span is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fct_ray.connectors.protocols import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Rows `start` to `stop` (not included) of one file."""

    file: str
    start: int
    stop: int

    @staticmethod
    def of(part: Part) -> Span:
        """The span that a part is."""
        file, start, stop = json.loads(part.token)
        return Span(file=file, start=start, stop=stop)


def parts_of(files: Sequence[tuple[str, int]], rows: int) -> list[Part]:
    """Files and how many rows each has, in parts of at most `rows` rows; files without rows have none.

    Examples:
        >>> [(part.number, part.rows, part.token) for part in parts_of([("a", 5), ("b", 0), ("c", 2)], 3)]
        [(0, 3, '["a", 0, 3]'), (1, 2, '["a", 3, 5]'), (2, 2, '["c", 0, 2]')]
    """
    spans = [(file, start, min(start + rows, length)) for file, length in files for start in range(0, length, rows)]
    return [Part(number=number, rows=span[2] - span[1], token=json.dumps(span)) for number, span in enumerate(spans)]


def rows_between(batches: Iterable[pa.RecordBatch], start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` (not included) of batches in a row; later ones are not asked for.

    Examples:
        >>> numbers = pa.table({"n": range(10)}).to_batches(max_chunksize=4)
        >>> rows_between(numbers, 3, 6)["n"].to_pylist()
        [3, 4, 5]
    """
    kept: list[pa.RecordBatch] = []
    before = 0
    for batch in batches:
        wanted = batch.slice(max(start - before, 0), max(min(stop - before, len(batch)) - max(start - before, 0), 0))
        if len(wanted) or not kept:
            kept.append(wanted)
        before += len(batch)
        if before >= stop:
            break
    return pa.Table.from_batches(kept[1:] if len(kept) > 1 and not len(kept[0]) else kept)
