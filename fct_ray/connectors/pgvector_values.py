"""How values of Arrow become values of PostgreSQL, and back.

    int64, string, UUIDs (16 bytes), binary      bigint, text, uuid, bytea
    fixed_size_list<float32>[D] of embeddings    vector(D), written as text
    floats, booleans, dates, timestamps          their types
    lists and structs                            jsonb

Owns: that table. Legend: N rows, D dimension.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from fct_ray.connectors.protocols import TargetSchema
from fct_ray.errors import SettingsError
from fct_ray.kinds import KeyType

_ID_TYPES = {None: "bigint", KeyType.STRING: "text", KeyType.UUID: "uuid", KeyType.BINARY: "bytea"}


def column_type(field: pa.Field, schema: TargetSchema) -> str:
    """The type of a column of the new table."""
    if field.name == schema.id_column:
        return f"{_ID_TYPES[schema.key_type]} NOT NULL"
    return f"vector({schema.dimension})" if field.name == schema.embedding_column else sql_type(field)


def sql_type(field: pa.Field) -> str:
    """The type of a carried column. Raises SettingsError: PostgreSQL has none for it."""
    kind = field.type
    for is_kind, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "numeric(20)"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_float64, "double precision"),
        (pa.types.is_floating, "real"),
        (pa.types.is_string, "text"),
        (pa.types.is_binary, "bytea"),
        (pa.types.is_fixed_size_binary, "bytea"),
        (pa.types.is_date, "date"),
        (pa.types.is_nested, "jsonb"),
    ):
        if is_kind(kind):
            return name
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "timestamp" if kind.tz is None else "timestamptz"
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    raise SettingsError(
        f"column {field.name!r} is {kind}, for which PostgreSQL has no type here; leave it out with --leave-out {field.name}"
    )


def is_kept(field: pa.Field) -> bool:
    """Whether a column comes back as it was written."""
    return not (pa.types.is_nested(field.type) and not pa.types.is_fixed_size_list(field.type)) and not (
        pa.types.is_uint64(field.type)
    )


def rows_of(rows: pa.Table, schema: TargetSchema) -> Iterator[tuple[Any, ...]]:
    """The rows of a shard, as COPY takes them."""
    columns: list[Iterator[Any]] = []
    for field in rows.schema:
        column = rows[field.name]
        if field.name == schema.embedding_column:
            vectors_ND = column.combine_chunks().flatten().to_numpy().reshape(-1, schema.dimension)
            columns.append(map(_vector_text, vectors_ND))
        elif field.name == schema.id_column and schema.key_type is KeyType.UUID:
            columns.append(uuid.UUID(bytes=value) for value in column.to_pylist())
        elif pa.types.is_nested(field.type):
            columns.append(None if value is None else json.dumps(value, default=str) for value in column.to_pylist())
        else:
            columns.append(iter(column.to_pylist()))
    yield from zip(*columns, strict=True)


def selected(field: pa.Field, schema: TargetSchema) -> sql.Composable:
    """A column as it is read: vectors as arrays of float32."""
    name = sql.Identifier(field.name)
    return sql.SQL("{}::real[]").format(name) if field.name == schema.embedding_column else name


def ids_of(ids: pa.Array, schema: TargetSchema) -> list[Any]:
    """Ids as the database compares them."""
    values = ids.to_pylist()
    return [uuid.UUID(bytes=value) for value in values] if schema.key_type is KeyType.UUID else values


def table_of_rows(rows: Sequence[Sequence[Any]], fields: Sequence[pa.Field], schema: TargetSchema) -> pa.Table:
    """The rows of an answer in the types of the version."""
    arrays = []
    for position, field in enumerate(fields):
        values = [row[position] for row in rows]
        if field.name == schema.id_column and schema.key_type is KeyType.UUID:
            values = [value.bytes for value in values]
        arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=pa.schema(fields))


def _vector_text(vector_D: np.ndarray) -> str:
    """The shortest text that is read as exactly these float32 numbers."""
    return f"[{','.join(np.char.mod('%.9g', vector_D))}]"
