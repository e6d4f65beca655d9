"""The Parquet side of a shard: checked columns in, deterministic bytes out.

Owns: which columns a shard has, what is refused (naming object and row), and the bytes that a table becomes. Knows
nothing of where the bytes lie. Array legend: N rows, D dimension of `embedding`, S of `side_info`, W of a replaced
embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import DataError, FormatError, SettingsError
from fct_ray.key_types import KEY, UserIds
from fct_ray.storage.parquet_tables import read_parquet_bytes
from fct_ray.storage.partitions import partition_values
from fct_ray.storage.vector_columns import (
    ARROW_TYPES,
    FLOATS,
    ArrowArray,
    FloatArray,
    first_true,
    single_column,
    vector_array,
    vector_column,
    vectors_of,
)

ROW_GROUP_ROWS = 65_536
ID, EMBEDDING, SIDE_INFO = "id", "embedding", "side_info"
IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardColumns:
    """A checked shard. The arrays may be read-only views of the table's memory."""

    ids_N: IdArray
    embeddings_ND: FloatArray
    """C-contiguous."""
    side_info_NS: FloatArray | None
    """Decoded: int8 is multiplied by its scale."""
    table: pa.Table
    """All columns as they lie in the file, then partition columns; `side_info` undecoded, carried columns untouched."""


def read_shard(data: bytes, uri: str) -> pa.Table:
    """The table in the Parquet `data` of the object at `uri`, with its partition columns where it lacks them.

    Raises:
        FormatError: not a readable Parquet file.
    """
    return with_partitions(read_parquet_bytes(data, uri), uri)


def with_partitions(table: pa.Table, uri: str) -> pa.Table:
    """The table of the object at `uri` with its partition columns where it lacks them."""
    for name, value in partition_values(uri).items():
        if name not in {ID, EMBEDDING, SIDE_INFO, *table.column_names}:
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table


def parse_shard(data: bytes, uri: str, *, dimension: int | None, side_dimension: int | None) -> ShardColumns:
    """The columns of the shard whose Parquet bytes are `data`, checked and decoded to float32.

    `embedding` and `side_info` may be fixed_size_list (the store's format) or lists of equal length (adopted files);
    `side_info` is optional unless `side_dimension` wants it. Zero copy where the file holds plain float32.

    `dimension` is the wanted D (None: what is there), `side_dimension` the wanted S (None: what is there, or nothing).

    Raises:
        FormatError: a column is missing or has another type or dimension (seen, wanted, next action).
        DataError: null or duplicate ids, null, NaN or infinite vectors; names the row.
    """
    return parse_table(read_shard(data, uri), uri, dimension=dimension, side_dimension=side_dimension)


def parse_table(table: pa.Table, uri: str, *, dimension: int | None, side_dimension: int | None) -> ShardColumns:
    """`parse_shard` of a table that was read before."""
    ids_N = ids_of(table, uri)
    embeddings_ND = vectors_of(table, EMBEDDING, uri, dimension, FLOATS)
    side_info_NS = None
    if SIDE_INFO in table.column_names or side_dimension is not None:
        side_info_NS = vectors_of(table, SIDE_INFO, uri, side_dimension, (*FLOATS, pa.int8()))
    return ShardColumns(ids_N=ids_N, embeddings_ND=embeddings_ND, side_info_NS=side_info_NS, table=table)


def side_dtype(table: pa.Table) -> str | None:
    """How a checked shard stores its side-information; None if it has none."""
    if SIDE_INFO not in table.column_names:
        return None
    value_type = table.schema.field(SIDE_INFO).type.value_type
    return next((name for name, kind in ARROW_TYPES.items() if kind == value_type), "float32")


def build_table(
    ids_N: IdArray,
    embeddings_ND: FloatArray,
    side_info_NS: FloatArray | None,
    carried: Mapping[str, Any],
    side_dtype: str = "float32",
    keys: UserIds | None = None,
) -> pa.Table:
    """A shard's table: `id`, `embedding` [D] float32, `side_info` [S] as `side_dtype` (if given), `key`, then `carried`.

    `keys` are those of a store that has some, in its type. `side_dtype` is "float32", "float16" or "int8" (then with one
    scale, in the field's metadata).

    Raises:
        SettingsError: another `side_dtype`.
        FormatError: a carried column has a name of the format.
        DataError: the columns have unequal lengths.
    """
    if side_dtype not in ARROW_TYPES:
        raise SettingsError(f"side-information dtype {side_dtype!r}; wanted one of {sorted(ARROW_TYPES)}")
    columns: dict[str, ArrowArray] = {
        ID: pa.array(ids_N, pa.int64()),
        EMBEDDING: vector_array(embeddings_ND, "float32"),
    }
    fields = [pa.field(ID, pa.int64()), pa.field(EMBEDDING, columns[EMBEDDING].type)]
    if side_info_NS is not None:
        field, columns[SIDE_INFO] = vector_column(side_info_NS, SIDE_INFO, side_dtype)
        fields.append(field)
    if keys is not None:
        columns[KEY] = keys
        fields.append(pa.field(KEY, keys.type))
    for name, values in carried.items():
        if name in {ID, EMBEDDING, SIDE_INFO} or name in columns:
            raise FormatError(f"carried column {name!r}: the name belongs to the store's format; rename the column")
        columns[name] = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values)
        fields.append(pa.field(name, columns[name].type))
    if len({len(column) for column in columns.values()}) != 1:
        lengths = {name: len(column) for name, column in columns.items()}
        raise DataError(f"columns of unequal length: {lengths}; wanted one value per id")
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def with_embeddings(table: pa.Table, embeddings_ND: FloatArray) -> pa.Table:
    """`table` with `embedding` replaced by float32 vectors of any dimension, [N, W].

    Every other column, the order of rows and columns, and all schema metadata stay untouched.

    Raises:
        DataError: another number of rows.
    """
    if len(embeddings_ND) != table.num_rows:
        raise DataError(f"{len(embeddings_ND)} embeddings for {table.num_rows} rows; wanted one per row, in order")
    position = table.schema.get_field_index(EMBEDDING)
    values = vector_array(embeddings_ND, "float32")
    return table.set_column(position, table.schema.field(position).with_type(values.type), values)


def encode_table(table: pa.Table) -> bytes:
    """`table` as Parquet bytes: equal tables give equal bytes (of one pyarrow version).

    Vectors are stored plain: compression and dictionaries cost time and save nothing on them. Row groups have at
    most 65,536 rows.
    """
    paths = _leaf_paths(table.schema)
    others = [path for path in paths if path.split(".")[0] not in {EMBEDDING, SIDE_INFO}]
    options: dict[str, Any] = {
        "compression": {path: "zstd" if path in others else "none" for path in paths},
        "use_dictionary": [path for path in others if path != ID],
        "write_statistics": others,
    }
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP_ROWS, **options)
    return bytes(sink.getvalue())


def _leaf_paths(schema: pa.Schema) -> list[str]:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet_schema = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet_schema.column(position).path for position in range(len(parquet_schema))]


def ids_of(table: pa.Table, uri: str) -> IdArray:
    """The ids of a table, [N]. Raises FormatError, DataError like `parse_shard`."""
    column = single_column(table, ID, uri)
    if column.type != pa.int64():
        raise FormatError(f"{uri}: column 'id' is {column.type}; wanted int64. Cast the ids and write the file again")
    if column.null_count:
        raise DataError(
            f"{uri}: row {first_true(column.is_null())}: the id is null; wanted a unique int64 for every row"
        )
    ids_N: IdArray = column.to_numpy(zero_copy_only=True)
    if len(ids_N) > 1 and not bool((ids_N[1:] > ids_N[:-1]).all()):
        order_N = np.argsort(ids_N, kind="stable")
        repeated = np.flatnonzero(ids_N[order_N][1:] == ids_N[order_N][:-1])
        if len(repeated):
            first, second = order_N[repeated[0]], order_N[repeated[0] + 1]
            raise DataError(
                f"{uri}: rows {first} and {second} both have id {ids_N[first]} ({len(repeated)} repeated ids in all); "
                "ids must be unique in the store. Remove the duplicates"
            )
    return ids_N
