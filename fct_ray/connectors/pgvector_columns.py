"""How values of PostgreSQL are read into Arrow, column by column.

    vector(D), halfvec(D)                    fixed_size_list<float32 or float16>[D]; lists where D is not declared
    uuid that is the primary key             16 bytes; other uuids are text
    smallint ... bigint, real, double        int16 ... int64, float32, float64
    boolean, bytea, date, timestamp, timestamptz    their types, microseconds
    numeric(p, s)                            decimal128(p, s)
    jsonb, json, and everything else         text, as PostgreSQL writes it

Owns: that table. Legend: D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

_VECTORS = {"vector": (pa.float32(), ">f4"), "halfvec": (pa.float16(), ">f2")}
_HEAD_BYTES = 4
"""Before the numbers of a vector, as the server sends it: how many there are, and an unused field."""
_PLAIN: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
_MOST_DIGITS = 38


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column, as the catalog describes it."""

    name: str
    kind: str
    """Its type's name in pg_type."""
    modifier: int
    """E.g. the dimension of a vector; -1: not declared."""
    is_key: bool

    @property
    def is_vector(self) -> bool:
        """Whether it may hold embeddings."""
        return self.kind in _VECTORS


def arrow_type(column: Column) -> Any:
    """The type in which it is read."""
    if column.is_vector:
        value = _VECTORS[column.kind][0]
        return pa.list_(value, column.modifier) if column.modifier > 0 else pa.list_(value)
    if column.kind == "uuid" and column.is_key:
        return pa.binary(16)
    if column.kind == "numeric" and column.modifier > 0:
        precision, scale = (column.modifier - 4) >> 16, (column.modifier - 4) & 0x7FF
        if precision <= _MOST_DIGITS and scale <= precision:
            return pa.decimal128(precision, scale)
    return _PLAIN.get(column.kind, pa.string())


def selected(column: Column) -> sql.Composable:
    """The column in a SELECT: as text where Arrow has no type for it."""
    name = sql.Identifier(column.name)
    is_text = pa.types.is_string(arrow_type(column)) and column.kind not in {"text", "varchar"}
    return sql.SQL("{}::text").format(name) if is_text else name


def array_of(column: Column, values: Sequence[Any]) -> Any:
    """The values of a column as Arrow has them; nulls stay."""
    kind = arrow_type(column)
    if column.is_vector:
        return _vectors(values, kind, _VECTORS[column.kind][1])
    if column.kind == "uuid" and column.is_key:
        return pa.array([value.bytes for value in values], kind)
    return pa.array(values, kind)


def _vectors(values: Sequence[bytes | None], kind: Any, layout: str) -> Any:
    """Vectors as the server sends them, in one buffer."""
    is_null_N = np.array([value is None for value in values], dtype=bool)
    if pa.types.is_fixed_size_list(kind):
        empty = bytes(_HEAD_BYTES + kind.list_size * np.dtype(layout).itemsize)
        buffer = b"".join((value or empty)[_HEAD_BYTES:] for value in values)
        return pa.FixedSizeListArray.from_arrays(_numbers(buffer, layout, kind), type=kind, mask=pa.array(is_null_N))
    sizes_N = [len((value or b"")[_HEAD_BYTES:]) // np.dtype(layout).itemsize for value in values]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes_N)]).astype(np.int32))
    buffer = b"".join((value or b"")[_HEAD_BYTES:] for value in values)
    return pa.ListArray.from_arrays(offsets, _numbers(buffer, layout, kind), type=kind, mask=pa.array(is_null_N))


def _numbers(buffer: bytes, layout: str, kind: Any) -> Any:
    numbers = np.frombuffer(buffer, dtype=layout)
    return pa.array(numbers.astype(numbers.dtype.newbyteorder("=")), kind.value_type)
