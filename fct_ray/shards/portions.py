"""What one task reads of a gallery that lies elsewhere, and the shards that it becomes.

    one object, or some row groups of a large one     one shard, in place
    many small objects                                one shard, which is a copy of all of them
    one row group that is too large for one shard     several shards, which are copies of its slices

Owns: reading such a portion shard by shard, with the rows of no more than one shard in memory. How objects are divided is
decided in `plan/portions`; what becomes of the rows is the caller's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from fct_ray.plan.portions import Piece, Portion
from fct_ray.storage import gallery_reader, objects, parquet_parts, shards
from fct_ray.values import ObjectRef

_READ_AHEAD = 16


def shard_tables(portion: Portion) -> Iterator[list[tuple[pa.Table, ObjectRef]]]:
    """For each shard that a portion becomes: the tables that it is made of, in order, each with the bytes it was read from.

    Raises:
        NotFoundError: an object is gone.
        FormatError: one is not a readable Parquet file.
    """
    if portion.rows_per_shard is not None:
        yield from _slices(portion.pieces[0], portion.rows_per_shard)
        return
    if len(portion.pieces) == 1:
        yield [_table(portion.pieces[0])]
        return
    with ThreadPoolExecutor(_READ_AHEAD) as threads:
        tables = list(threads.map(_table, portion.pieces))
    yield tables


def joined_ref(refs: list[ObjectRef]) -> ObjectRef:
    """What a record says of the objects that a copied shard was made from: the first one's name, all bytes, a hash of all."""
    if len(refs) == 1:
        return refs[0]
    together = hashlib.sha256("".join(ref.sha256 for ref in refs).encode()).hexdigest()
    return ObjectRef(path=refs[0].path, bytes=sum(ref.bytes for ref in refs), sha256=together)


def _table(piece: Piece) -> tuple[pa.Table, ObjectRef]:
    data, ref = gallery_reader.fetched(piece.uri, piece.rows, piece.byte_range)
    return gallery_reader.table_in(data, ref.path, ref.rows, ref.byte_range), ref


def _slices(piece: Piece, rows_per_shard: int) -> Iterator[list[tuple[pa.Table, ObjectRef]]]:
    assert piece.rows is not None  # noqa: S101 (only a row group of a known place is cut)
    assert piece.byte_range is not None  # noqa: S101
    mark = objects.marks([piece.uri])[0]
    start, num_rows = piece.rows[0], piece.rows[1] - piece.rows[0]
    whole = ObjectRef(path=piece.uri, bytes=piece.byte_range[1] - piece.byte_range[0], sha256="")
    for table in parquet_parts.slices(piece.uri, piece.rows, rows_per_shard):
        stop = start + table.num_rows
        # What is streamed is not hashed: the object's mark, which the run's id has too, says which content it was.
        made_of = hashlib.sha256(f"{piece.uri} {mark} {start} {stop}".encode()).hexdigest()
        read = whole.bytes * table.num_rows // num_rows
        yield [(shards.with_partitions(table, piece.uri), replace(whole, bytes=read, sha256=made_of))]
        start = stop
