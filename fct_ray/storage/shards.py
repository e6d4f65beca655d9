"""The Parquet side of a shard: checked columns in, deterministic bytes out.

Owns: which columns and types a shard has, what is refused (naming object and row), how float16 and int8 become
float32 and back. Knows nothing of where the bytes lie. Array legend: N rows, D dimension of `embedding`, S of
`side_info`, W of a replaced embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import DataError, FormatError, SettingsError

ROW_GROUP_ROWS = 65_536
NORM_TOLERANCE = 1e-3
ID, EMBEDDING, SIDE_INFO = "id", "embedding", "side_info"
FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
ArrowArray: TypeAlias = Any  # pyarrow's own annotations differ between its versions
ArrowField: TypeAlias = Any

MAX_VALUES_PER_BYTE, LEAST_MAX_VALUES = 64, 1 << 24
"""A file that claims more values is refused unread: it would unfold to hundreds of times its size. Vectors have less than
one value per byte; the second number leaves room for small files of equal values."""
_PARQUET_ERRORS = (pa.ArrowException, OSError, MemoryError, ValueError, TypeError, LookupError)
"""What pyarrow raises on damaged files; the last three come from names that are no text, and from extension types."""
_FLOATS = (pa.float32(), pa.float16(), pa.float64())
_ARROW_TYPES: dict[str, Any] = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardColumns:
    """A checked shard. The arrays may be read-only views of the table's memory."""

    ids_N: IdArray
    embeddings_ND: FloatArray
    """C-contiguous."""
    side_info_NS: FloatArray | None
    """Decoded: int8 is multiplied by its scale."""
    table: pa.Table
    """All columns as they lie in the file; `side_info` undecoded, carried columns untouched."""


def read_parquet_bytes(data: bytes, uri: str) -> pa.Table:
    """The table in Parquet `data`. Raises FormatError naming `uri`."""
    return read_parquet(pa.BufferReader(data), uri)


def read_parquet(source: pa.NativeFile, uri: str, columns: list[str] | None = None) -> pa.Table:
    """The table in an open Parquet file, or those of `columns` that it has. Raises FormatError naming `uri`."""
    try:
        file = pq.ParquetFile(source)
        _check_claims(file, source.size(), uri)
        table = file.read(columns=columns)
        _ = table.column_names  # decodes them: they may not be UTF-8
    except _PARQUET_ERRORS as error:
        raise FormatError(
            f"{uri}: not a readable Parquet file ({error!s:.500}). If it speaks of list sizes, a row of a fixed_size_list is "
            "null: embed that item or remove it; otherwise write or copy the file again"
        ) from error
    return table


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


def parse_shard(data: bytes, uri: str, *, dimension: int | None, side_dimension: int | None) -> ShardColumns:
    """The columns of the shard whose Parquet bytes are `data`, checked and decoded to float32.

    `embedding` and `side_info` may be fixed_size_list (the store's format) or lists of equal length (adopted files);
    `side_info` is optional unless `side_dimension` wants it. Zero copy where the file holds plain float32.

    `dimension` is the wanted D (None: what is there), `side_dimension` the wanted S (None: what is there, or nothing).

    Raises:
        FormatError: a column is missing or has another type or dimension (seen, wanted, next action).
        DataError: null or duplicate ids, null, NaN or infinite vectors; names the row.
    """
    return parse_table(read_parquet_bytes(data, uri), uri, dimension=dimension, side_dimension=side_dimension)


def parse_table(table: pa.Table, uri: str, *, dimension: int | None, side_dimension: int | None) -> ShardColumns:
    """`parse_shard` of a table that was read before."""
    ids_N = ids_of(table, uri)
    embeddings_ND = _vectors(table, EMBEDDING, uri, dimension, _FLOATS)
    side_info_NS = None
    if SIDE_INFO in table.column_names or side_dimension is not None:
        side_info_NS = _vectors(table, SIDE_INFO, uri, side_dimension, (*_FLOATS, pa.int8()))
    return ShardColumns(ids_N=ids_N, embeddings_ND=embeddings_ND, side_info_NS=side_info_NS, table=table)


def side_dtype(table: pa.Table) -> str | None:
    """How a checked shard stores its side-information; None if it has none."""
    if SIDE_INFO not in table.column_names:
        return None
    value_type = table.schema.field(SIDE_INFO).type.value_type
    return next((name for name, kind in _ARROW_TYPES.items() if kind == value_type), "float32")


def build_table(
    ids_N: IdArray,
    embeddings_ND: FloatArray,
    side_info_NS: FloatArray | None,
    carried: Mapping[str, Any],
    side_dtype: str = "float32",
) -> pa.Table:
    """A shard's table: `id`, `embedding` [D] float32, `side_info` [S] as `side_dtype` (if given), then `carried`.

    `side_dtype` is "float32", "float16" or "int8" (then with one scale, in the field's metadata).

    Raises:
        SettingsError: another `side_dtype`.
        FormatError: a carried column has a name of the format.
        DataError: the columns have unequal lengths.
    """
    if side_dtype not in _ARROW_TYPES:
        raise SettingsError(f"side-information dtype {side_dtype!r}; wanted one of {sorted(_ARROW_TYPES)}")
    columns: dict[str, ArrowArray] = {
        ID: pa.array(ids_N, pa.int64()),
        EMBEDDING: _vector_array(embeddings_ND, "float32"),
    }
    fields = [pa.field(ID, pa.int64()), pa.field(EMBEDDING, columns[EMBEDDING].type)]
    if side_info_NS is not None:
        field, columns[SIDE_INFO] = _encoded_side_info(side_info_NS, side_dtype)
        fields.append(field)
    for name, values in carried.items():
        if name in {ID, EMBEDDING, SIDE_INFO}:
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
    values = _vector_array(embeddings_ND, "float32")
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


def _column(table: pa.Table, name: str, uri: str) -> ArrowArray:
    count = table.column_names.count(name)
    if count != 1:
        raise FormatError(
            f"{uri}: {count} columns named {name!r} among {table.column_names}; wanted exactly one. Rename the column, "
            "or write it with the data"
        )
    column: ArrowArray = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def ids_of(table: pa.Table, uri: str) -> IdArray:
    """The ids of a table, [N]. Raises FormatError, DataError like `parse_shard`."""
    column = _column(table, ID, uri)
    if column.type != pa.int64():
        raise FormatError(f"{uri}: column 'id' is {column.type}; wanted int64. Cast the ids and write the file again")
    if column.null_count:
        raise DataError(f"{uri}: row {_first(column.is_null())}: the id is null; wanted a unique int64 for every row")
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


def _vectors(
    table: pa.Table, name: str, uri: str, dimension: int | None, allowed: tuple[pa.DataType, ...]
) -> FloatArray:
    column = _column(table, name, uri)
    if not is_list(column.type) or column.type.value_type not in allowed:
        kinds = ", ".join(str(kind) for kind in allowed)
        raise FormatError(
            f"{uri}: column {name!r} is {column.type}; wanted a fixed_size_list of {kinds}"
            f"{f' of {dimension} values' if dimension else ''}. Write the vectors so, one list per row"
        )
    if column.null_count:
        raise DataError(f"{uri}: row {_first(column.is_null())}: {name!r} is null; wanted a vector in every row")
    seen = _width(column, name, uri)
    if seen < 1 and len(column):
        raise FormatError(f"{uri}: column {name!r} has vectors without values; wanted 1 or more. Embed the items again")
    if dimension is not None and seen != dimension and len(column):
        raise FormatError(
            f"{uri}: column {name!r} has vectors of dimension {seen}; wanted {dimension}. Was it made by another model?"
        )
    values = column.flatten()
    if values.null_count:
        row = _first(values.is_null()) // seen
        raise DataError(f"{uri}: row {row}: {name!r} holds a null; wanted {seen} finite numbers")
    vectors = values.to_numpy(zero_copy_only=True).reshape(len(column), seen)
    decoded = _decoded(vectors, table.schema.field(name), uri)
    _check_finite(decoded, name, uri)
    return decoded


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold vectors."""
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _width(column: ArrowArray, name: str, uri: str) -> int:
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths_N = np.diff(column.offsets.to_numpy())
    if len(lengths_N) == 0:
        return 0
    if (lengths_N != lengths_N[0]).any():
        row = int(np.argmax(lengths_N != lengths_N[0]))
        raise FormatError(
            f"{uri}: row {row}: {name!r} has {lengths_N[row]} values, row 0 has {lengths_N[0]}; wanted equal lengths. "
            "Were embeddings of two models mixed?"
        )
    return int(lengths_N[0])


def _decoded(vectors: npt.NDArray[Any], field: ArrowField, uri: str) -> FloatArray:
    if vectors.dtype != np.int8:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
            return np.ascontiguousarray(vectors, dtype=np.float32)
    text = (field.metadata or {}).get(b"scale", b"")
    try:
        scale = float(text)
    except ValueError:
        scale = float("nan")
    if not (np.isfinite(scale) and scale > 0):
        raise FormatError(
            f"{uri}: column {field.name!r} is int8 with scale {text!r} in its field metadata; wanted a positive number "
            "under the key 'scale'. Without it the values have no meaning: write the column again"
        )
    decoded: FloatArray = np.multiply(vectors, np.float32(scale), dtype=np.float32)
    return decoded


def _check_finite(vectors: FloatArray, name: str, uri: str) -> None:
    # min and max pass NaN on, and need no array of booleans as large as the shard.
    if vectors.size == 0 or (np.isfinite(vectors.min()) and np.isfinite(vectors.max())):
        return
    bad_N = ~np.isfinite(vectors).all(axis=1)
    row = int(np.argmax(bad_N))
    value = vectors[row][~np.isfinite(vectors[row])][0]
    raise DataError(
        f"{uri}: row {row}: {name!r} holds {value}; wanted finite numbers ({int(bad_N.sum())} such rows in all). "
        "Embed these items again, or remove them"
    )


def _encoded_side_info(side_info_NS: FloatArray, dtype: str) -> tuple[ArrowField, ArrowArray]:
    if dtype != "int8":
        values = _vector_array(side_info_NS, dtype)
        return pa.field(SIDE_INFO, values.type), values
    _check_finite(side_info_NS, SIDE_INFO, "vectors to be stored")
    scale = float(np.abs(side_info_NS).max(initial=0.0)) / 127 or 1.0
    values = _vector_array(np.rint(side_info_NS / scale).astype(np.int8), dtype)
    return pa.field(SIDE_INFO, values.type, metadata={b"scale": repr(scale).encode()}), values


def _vector_array(vectors: npt.NDArray[Any], dtype: str) -> ArrowArray:
    flat = np.ascontiguousarray(vectors, dtype=dtype).reshape(-1)
    # "element" is what Parquet calls it: so a table read back equals the one written, and encodes to the same bytes.
    kind: Any = pa.list_(pa.field("element", _ARROW_TYPES[dtype]), vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, _ARROW_TYPES[dtype]), type=kind)


def _first(mask: ArrowArray) -> int:
    return int(np.argmax(mask.to_numpy(zero_copy_only=False)))


def are_normalized(vectors_ND: FloatArray) -> bool:
    """Whether all vectors [N, D] have length 1 within NORM_TOLERANCE: what float16 and other libraries leave of it."""
    return bool(np.all(np.abs(np.linalg.norm(vectors_ND, axis=1) - 1) < NORM_TOLERANCE))
