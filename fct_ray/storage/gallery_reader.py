"""The one door through which the rows of a version's shards come in, whoever wrote the objects that they lie in.

    object of the store      whole; hash checked      `shards.read_shard`
    adopted object           whole; hash checked      `adopted_tables.canonical_table`
    part of an adopted one   its byte range alone; hash checked; then likewise

Owns: which of these an object is, and the order of reading: hash, names and types, bad rows, values. What is told to
workers is a `Reading`, which is the same for all shards of a version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import pyarrow as pa

from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.storage import documents, objects, pairs, parquet_parts, quarantine, shards
from fct_ray.storage.adopted_tables import canonical_table, parse_adopted
from fct_ray.storage.id_columns import integer_ids
from fct_ray.storage.parquet_tables import read_parquet, read_parquet_bytes
from fct_ray.storage.shards import IdArray, ShardColumns
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import single_column
from fct_ray.values import ROW_NUMBERS, AdoptedLayout, BadRow, Manifest, ObjectRef, ShardRecord, is_adopted


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a manifest says of how its shards are read."""

    layout: AdoptedLayout = field(default_factory=AdoptedLayout)
    keys: KeyType | None = None
    adopted_from: tuple[str, ...] = ()

    @staticmethod
    def of(manifest: Manifest) -> Reading:
        """How the shards of a version are read."""
        layout = manifest.adopted or AdoptedLayout()
        return Reading(layout=layout, keys=manifest.keys, adopted_from=manifest.adopted_from)

    @property
    def by_position(self) -> bool:
        """Whether rows of adopted objects have no ids of their own: row r has the shard's `id_min` + r."""
        return self.keys is not None or self.layout.id == ROW_NUMBERS


STORE_FORMAT = Reading()
"""How objects of a store, and those with the columns of one, are read."""


class Wanted(TypedDict):
    """Dimensions that vectors must have; None: what is there."""

    dimension: int | None
    side_dimension: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRows:
    """The usable rows of a shard, and the others."""

    columns: ShardColumns
    bad: tuple[BadRow, ...]
    uri: str
    num_bytes: int
    """What was read and hashed."""


def read_rows(
    store: Store,
    ref: ObjectRef,
    reading: Reading,
    first_id: int,
    on_bad_row: OnBadRow,
    *,
    dimension: int | None,
    side_dimension: int | None,
) -> ShardRows:
    """The rows of one shard of a version: the object `ref`, or the part of one that it names.

    `first_id` is the record's `id_min`, which rows without ids of their own are numbered from.

    Raises:
        NotFoundError: it is gone.
        FormatError: its bytes are not those that were published, or columns cannot be used.
        DataError: a bad row, with `OnBadRow.REFUSE`.
    """
    uri, data = store.uri_of(ref.path), store.read(ref)
    wanted: Wanted = {"dimension": dimension, "side_dimension": side_dimension}
    if is_adopted(ref.path, reading.adopted_from):
        table = table_in(data, uri, ref.rows, ref.byte_range)
        del data  # the table is a copy; what follows may need as much again
        columns, bad = parse_object(table, uri, reading.layout, reading.keys, first_id, on_bad_row, **wanted)
    else:
        columns, bad = quarantine.parse_shard(data, uri, on_bad_row, keys=reading.keys, **wanted)
    return ShardRows(columns=columns, bad=bad, uri=uri, num_bytes=ref.bytes)


def read_record(
    store: Store,
    record: ShardRecord,
    reading: Reading,
    on_bad_row: OnBadRow,
    *,
    dimension: int | None,
    side_dimension: int | None,
) -> ShardRows:
    """`read_rows` of the shard that a record names."""
    return read_rows(
        store,
        record.embeddings,
        reading,
        record.id_min,
        on_bad_row,
        dimension=dimension,
        side_dimension=side_dimension,
    )


def table_in(data: bytes, uri: str, rows: parquet_parts.Span | None, byte_range: parquet_parts.Span | None) -> pa.Table:
    """The table in `data`, which are the bytes of an object, or of some row groups of it; with partition columns.

    Raises:
        FormatError: not readable, or no such row groups.
    """
    if rows is None or byte_range is None:
        return shards.with_partitions(read_parquet_bytes(data, uri), uri)
    return shards.with_partitions(parquet_parts.read_part(uri, rows, byte_range, data), uri)


def parse_object(
    table: pa.Table,
    uri: str,
    layout: AdoptedLayout,
    keys: KeyType | None,
    first_id: int,
    on_bad_row: OnBadRow,
    *,
    dimension: int | None,
    side_dimension: int | None,
) -> tuple[ShardColumns, tuple[BadRow, ...]]:
    """The usable rows of a table that another tool wrote, and the others; with REFUSE the first bad row raises.

    Raises:
        FormatError: a column is missing, or cannot be used.
        DataError: a bad row, with REFUSE.
    """
    table = canonical_table(table, layout, keys, first_id, uri)
    bad: tuple[BadRow, ...] = ()
    if on_bad_row is OnBadRow.QUARANTINE:
        raw_dimension = dimension if layout.truncate is None else None
        table, bad = quarantine.without_bad_rows(table, raw_dimension, side_dimension, keys=keys)
    elif keys is not None:
        quarantine.refuse_null_keys(table, uri)
    columns = parse_adopted(table, layout, uri, dimension=dimension, side_dimension=side_dimension)
    return columns, bad


def read_ids(store: Store, record: ShardRecord, reading: Reading) -> IdArray:
    """The ids of a shard, [N]; no other column is read, and none where rows are numbered.

    Raises:
        NotFoundError: there is no such object.
        FormatError, DataError: no readable column of unique whole numbers.
    """
    ref = record.embeddings
    if not is_adopted(ref.path, reading.adopted_from):
        return pairs.read_ids(store.uri_of(ref.path), ref.bytes)
    if reading.by_position:
        return np.arange(record.id_min, record.id_min + record.rows, dtype=np.int64)
    return object_ids(store.uri_of(ref.path), ref.rows, ref.byte_range, reading.layout, ref.bytes)


def object_ids(
    uri: str,
    rows: parquet_parts.Span | None,
    byte_range: parquet_parts.Span | None,
    layout: AdoptedLayout,
    num_bytes: int | None = None,
) -> IdArray:
    """The whole numbers by which an adopted object, or a part of one, calls its rows, [N]; nothing else is read.

    `num_bytes` is the size that a whole object must have (None: any). Raises like `read_ids`.
    """
    if rows is not None and byte_range is not None:
        table = parquet_parts.read_part(uri, rows, byte_range, None, [layout.id])
    else:
        with pairs.opened(uri, num_bytes) as file:
            table = read_parquet(file, uri, [layout.id])
    single_column(table, layout.id, uri)
    ids = integer_ids(table[layout.id], layout.id, uri)
    return shards.ids_of(pa.table({shards.ID: ids}), uri)


def fetched(
    uri: str, rows: parquet_parts.Span | None, byte_range: parquet_parts.Span | None
) -> tuple[bytes, ObjectRef]:
    """The bytes of an object, or of a part of one, and what a manifest says of them."""
    data = objects.read_bytes(uri) if byte_range is None else objects.read_range(uri, *byte_range)
    ref = ObjectRef(path=uri, bytes=len(data), sha256=documents.sha256_hex(data), rows=rows, byte_range=byte_range)
    return data, ref
