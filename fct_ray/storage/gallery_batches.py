"""Rows of a gallery that somebody else wrote, a bounded number of bytes of them or all, in batches of bounded memory.

Owns: which row groups are read, and how rows without a usable vector are counted instead of refused. A row group that is
larger than its share of the budget is read from its start. Array legend: N usable rows of a batch, D numbers of a vector.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.key_types import plain
from fct_ray.storage import parquet_tables
from fct_ray.storage.foreign_vectors import vector_lists
from fct_ray.storage.gallery_columns import Columns
from fct_ray.storage.gallery_files import ObjectFooter, RowGroup, open_object
from fct_ray.storage.vector_columns import ArrowArray, ArrowField, FloatArray
from fct_ray.values import ROW_NUMBERS

BATCH_ROWS = 8_192
LEAST_SHARES = 64
"""A budget is divided among so many row groups at least, if there are as many: one group says little of the others."""
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupToRead:
    """The first `num_rows` rows of a row group."""

    group: RowGroup
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorBatch:
    """The vectors of a batch."""

    num_rows: int
    """Rows of the batch, with a vector or without."""
    nulls: int
    other_dimension: int
    rows_N: npt.NDArray[np.int64]
    """Positions in the batch of the rows that have a vector of the right dimension."""
    vectors_ND: FloatArray
    """May hold NaN and infinite values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryBatch:
    """Rows of one object that lie together."""

    object: int
    first_row: int
    """Position in the object."""
    embedding: VectorBatch
    side_info: VectorBatch | None
    labels: ArrowArray | None


@dataclass(frozen=True, kw_only=True, slots=True)
class IdCounts:
    """What was counted in an id column."""

    num_rows: int
    whole: bool
    nulls: int
    repeated: int


def groups_to_read(footers: Sequence[ObjectFooter], *, most_bytes: int | None, seed: int) -> tuple[GroupToRead, ...]:
    """All row groups, or a seeded sample of them over all objects that unpacks to at most about `most_bytes`."""
    groups = [group for footer in footers for group in footer.groups if group.num_rows]
    if most_bytes is None or sum(group.num_bytes for group in groups) <= most_bytes:
        return tuple(GroupToRead(group=group, num_rows=group.num_rows) for group in groups)
    numbers = random.Random(seed)  # noqa: S311 (a sample, no secret)
    by_object = [numbers.sample(footer.groups, len(footer.groups)) for footer in footers]
    numbers.shuffle(by_object)
    share, left, chosen = most_bytes / min(len(groups), LEAST_SHARES), float(most_bytes), list[GroupToRead]()
    for group in chain.from_iterable(zip_longest(*by_object)):
        if group is None or not group.num_rows:
            continue
        bytes_per_row = max(group.num_bytes / group.num_rows, 1.0)
        num_rows = min(group.num_rows, max(int(share / bytes_per_row), 1))
        if num_rows * bytes_per_row > left:
            break
        left -= num_rows * bytes_per_row
        chosen.append(GroupToRead(group=group, num_rows=num_rows))
    return tuple(sorted(chosen, key=lambda one: (one.group.object, one.group.group)))


def read_batches(
    footers: Sequence[ObjectFooter], groups: Sequence[GroupToRead], columns: Columns, dimensions: dict[str, int]
) -> Iterator[GalleryBatch]:
    """The chosen rows; `dimensions` has the wanted number of values for each column of vectors, see `dimensions_of`.

    Raises:
        FormatError: an object whose pages cannot be read.
    """
    wanted = [name for name in (columns.embedding, columns.side_info, columns.label) if name is not None]
    for position, of_object in groupby(groups, key=lambda one: one.group.object):
        footer = footers[position]
        for chosen in of_object:
            first_row = chosen.group.first_row
            for batch in _batches(footer, chosen, wanted):
                assert columns.embedding is not None  # noqa: S101 (nothing is read without vectors)
                yield GalleryBatch(
                    object=position,
                    first_row=first_row,
                    embedding=_vectors(batch, columns.embedding, dimensions),
                    side_info=None if columns.side_info is None else _vectors(batch, columns.side_info, dimensions),
                    labels=None if columns.label is None else batch.column(columns.label),
                )
                first_row += batch.num_rows


def dimensions_of(footers: Sequence[ObjectFooter], groups: Sequence[GroupToRead], columns: Columns) -> dict[str, int]:
    """The most frequent number of values in each column of vectors, by the first batch of the first few groups."""
    names = [name for name in (columns.embedding, columns.side_info) if name is not None]
    lengths: dict[str, Counter[int]] = {name: Counter() for name in names}
    for chosen in groups[:4]:
        batch = next(_batches(footers[chosen.group.object], chosen, names), None)
        if batch is None:
            continue
        for name in names:
            found = _lengths(_lists(batch, name))
            lengths[name].update(found[found >= 0].tolist())
    return {name: counts.most_common(1)[0][0] if counts else 0 for name, counts in lengths.items()}


def count_ids(footers: Sequence[ObjectFooter], column: str | None, most_rows: int) -> IdCounts | None:
    """Nulls and repeated ids in the id columns of whole objects with together at most `most_rows` rows; at least one."""
    if column is None or column == ROW_NUMBERS:
        return None
    chosen, rows = list[ObjectFooter](), 0
    for footer in footers:
        if chosen and rows + footer.num_rows > most_rows:
            break
        chosen.append(footer)
        rows += footer.num_rows
    pieces = list[ArrowArray]()
    for footer in chosen:
        if column not in footer.schema.names:
            continue
        with open_object(footer.uri) as source, parquet_tables.readable(footer.uri):
            table = parquet_tables.open_parquet(source, footer.uri, buffer_bytes=_BUFFER_BYTES).read(columns=[column])
        pieces.append(plain(table.column(column)))
    kinds = {piece.type for piece in pieces}
    if len(kinds) > 1:
        pieces = [piece.cast(pa.string()) for piece in pieces]
    ids = pa.chunked_array(pieces)
    nulls = ids.null_count
    return IdCounts(
        num_rows=len(ids),
        whole=len(chosen) == len(footers),
        nulls=nulls,
        repeated=len(ids) - nulls - pc.count_distinct(ids, mode="only_valid").as_py(),
    )


def _batches(footer: ObjectFooter, chosen: GroupToRead, columns: list[str]) -> Iterator[pa.RecordBatch]:
    left = chosen.num_rows
    with open_object(footer.uri) as source, parquet_tables.readable(footer.uri):
        file = parquet_tables.open_parquet(source, footer.uri, buffer_bytes=_BUFFER_BYTES)
        options: dict[str, Any] = {"row_groups": [chosen.group.group], "columns": columns, "use_threads": False}
        for batch in file.iter_batches(batch_size=min(BATCH_ROWS, left), **options):
            taken = batch.slice(0, left)
            left -= len(taken)
            yield taken
            if left <= 0:
                return


def _vectors(batch: pa.RecordBatch, name: str, dimensions: dict[str, int]) -> VectorBatch:
    lists, dimension = _lists(batch, name), dimensions[name]
    lengths_N = _lengths(lists)
    has_vector_N = lengths_N == dimension
    kept = lists.filter(pa.array(has_vector_N)) if not has_vector_N.all() else lists
    values, rows_N = kept.flatten(), np.flatnonzero(has_vector_N)
    nulls = int((lengths_N < 0).sum())
    if values.null_count and dimension:
        without_null_N = ~values.is_null().to_numpy(zero_copy_only=False).reshape(-1, dimension).any(axis=1)
        nulls += int((~without_null_N).sum())
        rows_N = rows_N[without_null_N]
        values = kept.filter(pa.array(without_null_N)).flatten()
    with np.errstate(over="ignore", invalid="ignore"):
        flat = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False) * _scale(batch.schema.field(name))
    return VectorBatch(
        num_rows=batch.num_rows,
        nulls=nulls,
        other_dimension=int(((lengths_N >= 0) & ~has_vector_N).sum()),
        rows_N=rows_N,
        vectors_ND=flat.reshape(len(rows_N), dimension),
    )


def _lists(batch: pa.RecordBatch, name: str) -> ArrowArray:
    """A column of vectors as lists with offsets, or of one length."""
    column = pa.chunked_array([batch.column(name)])
    return vector_lists(column, batch.schema.field(name), name).combine_chunks()


def _lengths(lists: ArrowArray) -> npt.NDArray[np.int64]:
    """Values of each row, -1 where it is null."""
    return np.asarray(pc.fill_null(pc.cast(pc.list_value_length(lists), pa.int64()), -1))


def _scale(field: ArrowField) -> np.float32:
    """int8 carries its scale in the field's metadata; one that is no number is refused where vectors are adopted."""
    try:
        return np.float32(float((field.metadata or {}).get(b"scale", b"1")))
    except ValueError:
        return np.float32(1)
