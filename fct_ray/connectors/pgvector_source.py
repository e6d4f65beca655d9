"""Reading a table of PostgreSQL with pgvector, `pgvector:postgresql://user@host/db#TABLE`, in ranges of its primary key.

    plan:  one pass over the keys -> the first key of every part, and how many rows it has
    read:  WHERE key >= first AND key < first of the next, ORDER BY key       (never an offset)

Owns: which SQL types become which Arrow types, and the state of a table that has no history: its number of rows and its
newest transaction, so that a table that was written to is noticed. The password comes from PGPASSWORD or a password file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from fct_ray.connectors.places import Place, table_of
from fct_ray.connectors.protocols import Part
from fct_ray.errors import FormatError, SourceError
from fct_ray.kinds import VectorMetric

ARROW = {
    "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(), "float8": pa.float64(),
    "bool": pa.bool_(), "text": pa.string(), "varchar": pa.string(), "bpchar": pa.string(), "uuid": pa.uuid(),
    "bytea": pa.binary(), "date": pa.date32(), "timestamptz": pa.timestamp("us", "UTC"), "timestamp": pa.timestamp("us"),
}  # fmt: skip
"""Types that stay what they are; of all others the text is taken."""
NUMBERS = {"vector": (">f4", np.float32), "halfvec": (">f2", np.float16)}
"""pgvector's types in its binary format, and in memory."""
CODES = {"bit": "bits", "varbit": "bits", "sparsevec": "a sparse vector"}
OPERATORS = {"cosine": VectorMetric.COSINE, "ip": VectorMetric.IP, "l2": VectorMetric.L2}
_HEADER_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    kind: str
    """Its SQL type."""

    @property
    def selected(self) -> sql.Composable:
        """How it is asked for."""
        name = sql.Identifier(self.name)
        return name if self.kind in ARROW or self.kind in NUMBERS else sql.SQL("{}::text").format(name)


class PgvectorSource:
    """A `ForeignTable` of one table with a primary key of one column."""

    def __init__(self, uri: str, name: str) -> None:
        """Nothing is asked yet; `name` is TABLE or SCHEMA.TABLE."""
        self.uri, self.name = uri, name

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "name": self.name}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns.

        Raises:
            SourceError: there is no such table, or the server does not answer.
            FormatError: its vectors are codes.
        """
        rows = self._asked(
            "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            (self._quoted,),
        )
        if not rows:
            raise SourceError(f"{self.name}: there is no such table in this database; want TABLE or SCHEMA.TABLE")
        found = tuple(Column(name=name, kind=kind) for name, kind in rows)
        vectors = [column for column in found if column.kind in NUMBERS]
        codes = [column for column in found if column.kind in CODES]
        if codes and not vectors:
            one = codes[0]
            raise FormatError(
                f"{self.name}: column {one.name!r} holds {CODES[one.kind]}, from which no vector can be had back; want a "
                "column of type vector or halfvec"
            )
        return found

    @cached_property
    def key(self) -> Column:
        """The column of the primary key. Raises SourceError: there is none, or it has several columns."""
        rows = self._asked(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
            "WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
            (self._quoted,),
        )
        if len(rows) != 1:
            raise SourceError(
                f"{self.name}: its primary key has {len(rows)} columns; want one, by which the table is read in parts: "
                "ALTER TABLE ... ADD PRIMARY KEY (COLUMN)"
            )
        return next(column for column in self.columns if column.name == rows[0][0])

    @property
    def metric(self) -> VectorMetric | None:
        """By the operators of an index on a vector; None where there is none, or indexes differ."""
        rows = self._asked(
            "SELECT DISTINCT o.opcname FROM pg_index i JOIN pg_opclass o ON o.oid = ANY(i.indclass) "
            "WHERE i.indrelid = to_regclass(%s) AND (o.opcname LIKE 'vector_%%' OR o.opcname LIKE 'halfvec_%%')",
            (self._quoted,),
        )
        found = {OPERATORS[name.split("_")[1]] for (name,) in rows if name.split("_")[1] in OPERATORS}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def mark(self) -> str:
        """How many rows it has, and its newest transaction."""
        ((count, newest),) = self._asked(
            sql.SQL("SELECT count(*), max(xmin::text::bigint) FROM {}").format(self._table), ()
        )
        return f"{count} rows, transaction {newest}"

    def head(self, rows: int) -> pa.Table:
        """The first rows by key."""
        query = sql.SQL("SELECT {} FROM {} ORDER BY {} LIMIT {}").format(
            self._selected, self._table, sql.Identifier(self.key.name), sql.Literal(rows)
        )
        return self._table_of(self._asked(query, (), binary=True))

    def parts(self, rows: int) -> Sequence[Part]:
        """Ranges of the primary key, by one pass over it."""
        key = sql.Identifier(self.key.name)
        query = sql.SQL(
            "SELECT first::text, (SELECT count(*) FROM {table}) FROM (SELECT {key} AS first, "
            "row_number() OVER (ORDER BY {key}) AS n FROM {table}) numbered WHERE (n - 1) % {rows} = 0 ORDER BY first"
        ).format(table=self._table, key=key, rows=sql.Literal(rows))
        found = self._asked(query, ())
        firsts = [first for first, _ in found]
        count = found[0][1] if found else 0
        return [
            Part(
                number=number,
                rows=min(rows, count - number * rows),
                token=json.dumps([first, firsts[number + 1] if number + 1 < len(firsts) else None]),
            )
            for number, first in enumerate(firsts)
        ]

    def read(self, part: Part) -> pa.Table:
        """The rows of one part, by key."""
        first, following = json.loads(part.token)
        key, kind = sql.Identifier(self.key.name), sql.Identifier(self.key.kind)
        below = (
            sql.SQL("") if following is None else sql.SQL(" AND {} < {}::{}").format(key, sql.Literal(following), kind)
        )
        query = sql.SQL("SELECT {} FROM {} WHERE {} >= {}::{}{} ORDER BY {}").format(
            self._selected, self._table, key, sql.Literal(first), kind, below, key
        )
        return self._table_of(self._asked(query, (), binary=True))

    @property
    def _table(self) -> sql.Composable:
        return sql.SQL(".").join(map(sql.Identifier, self.name.split(".")))

    @property
    def _quoted(self) -> str:
        return ".".join('"' + part.replace('"', '""') + '"' for part in self.name.split("."))

    @property
    def _selected(self) -> sql.Composable:
        return sql.SQL(", ").join([column.selected for column in self.columns])

    def _table_of(self, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
        values = list(zip(*rows, strict=True)) if rows else [()] * len(self.columns)
        return pa.table({column.name: _array(column, of) for column, of in zip(self.columns, values, strict=True)})

    def _asked(self, query: str | sql.Composable, values: tuple[Any, ...], *, binary: bool = False) -> list[Any]:
        with self._connected() as connection, connection.cursor(binary=binary) as cursor:
            cursor.execute(query, values or None)  # type: ignore[arg-type]
            return cursor.fetchall()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(self.uri) as connection:
                yield connection
        except psycopg.Error as error:
            raise SourceError(
                f"{self.name}: PostgreSQL does not answer as it should ({str(error).strip()[:300]}); check address, "
                "rights and PGPASSWORD"
            ) from error


def open_table(place: Place) -> PgvectorSource:
    """The table at a place. Raises SettingsError: it names no table; SourceError, FormatError."""
    opened = PgvectorSource(place.address, table_of(place))
    _ = opened.columns, opened.key
    return opened


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    if column.kind in NUMBERS:
        there, in_memory = NUMBERS[column.kind]
        rows = [
            None if value is None else np.frombuffer(value, there, offset=_HEADER_BYTES).astype(in_memory)
            for value in values
        ]
        return pa.array(rows, pa.list_(pa.from_numpy_dtype(in_memory)))
    if column.kind == "uuid":
        raw = [None if value is None else value.bytes for value in values]
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(raw, pa.binary(16)))
    return pa.array(values, ARROW.get(column.kind, pa.string()))
