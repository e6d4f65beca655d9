"""Tables of PostgreSQL with the extension pgvector, read in ranges of their primary keys.

A part is a range of keys, with the number of its rows and the sum of their `xmin`, the transactions that wrote them. Any
insert, update or delete changes one of the two, so that a part which is another one now is found out when it is read.

Owns: that. All ordering and comparing of keys is done by the server. Knows nothing about writing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from fct_ray.connectors.pgvector_columns import Column, array_of, arrow_type, selected
from fct_ray.connectors.places import Place, table_of
from fct_ray.connectors.protocols import Part
from fct_ray.errors import SettingsError, SourceError
from fct_ray.kinds import VectorMetric

_COLUMNS = """
SELECT a.attname, t.typname, a.atttypmod,
       EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_OPERATORS = """
SELECT DISTINCT o.opcname FROM pg_index i JOIN pg_opclass o ON o.oid = ANY(i.indclass) WHERE i.indrelid = to_regclass(%s)"""
_METRICS = {"cosine_ops": VectorMetric.COSINE, "ip_ops": VectorMetric.IP, "l2_ops": VectorMetric.L2}
_UNHELD = {"bit": "binary codes", "sparsevec": "sparse vectors"}


def open_table(place: Place) -> PgvectorSource:
    """The table that a place names, `NAME` or `SCHEMA.NAME`; its columns are looked at now.

    Raises:
        SettingsError: it names no table, or one without a primary key of one column, or without vectors.
        SourceError: the server does not answer, or has no such table.
    """
    schema, _, name = table_of(place).rpartition(".")
    source = PgvectorSource(uri=place.address, names=(schema, name) if schema else (name,))
    _check(source.columns, source.shown)
    return source


@dataclass(frozen=True, kw_only=True)
class PgvectorSource:
    """One table, in parts."""

    uri: str
    names: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The place, for messages."""
        return f"pgvector:{self.uri}#{'.'.join(self.names)}"

    @cached_property
    def columns(self) -> Sequence[Column]:
        """Columns in order of the table."""
        with self._snapshot() as connection:
            found = connection.execute(_COLUMNS, [self._regclass]).fetchall()
        if not found:
            raise SourceError(f"{self.shown}: there is no such table; check the names of database, schema and table")
        return [Column(name=name, kind=kind, modifier=modifier, is_key=key) for name, kind, modifier, key in found]

    @cached_property
    def mark(self) -> str:
        """Rows, and the transactions that wrote them."""
        command = "SELECT count(*), coalesce(sum(xmin::text::bigint), 0)::text, %s::regclass::oid FROM {table}"
        with self._snapshot() as connection:
            rows, written, oid = connection.execute(self._sql(command), [self._regclass]).fetchone() or (0, "0", 0)
        return f"table {oid}, {rows} rows, sum of xmin {written}"

    @cached_property
    def metric(self) -> VectorMetric | None:
        """What its indexes of vectors are for; None without one, or with two that differ."""
        with self._snapshot() as connection:
            found = [row[0] for row in connection.execute(_OPERATORS, [self._regclass])]
        metrics = {_METRICS[rest] for _, _, rest in (name.partition("_") for name in found) if rest in _METRICS}
        return metrics.pop() if len(metrics) == 1 else None

    def head(self, rows: int) -> pa.Table:
        """The first rows by key."""
        query = self._sql(
            "SELECT {columns} FROM {table} ORDER BY {key} LIMIT {rows}",
            columns=sql.SQL(", ").join(map(selected, self.columns)),
            rows=sql.Literal(rows),
        )
        with self._snapshot() as connection, connection.cursor(binary=True) as cursor:
            return self._table(cursor.execute(query).fetchall())

    def parts(self, rows: int) -> Sequence[Part]:
        """Ranges of about `rows` keys, all as one moment shows them."""
        command = (
            "SELECT min({key})::text, count(*), sum(written)::text FROM (SELECT {key}, xmin::text::bigint AS written, "
            "(row_number() OVER (ORDER BY {key}) - 1) / {rows} AS part FROM {table}) AS numbered GROUP BY part ORDER BY part"
        )
        if self._key.kind == "uuid":  # PostgreSQL before 18 has no min(uuid)
            command = command.replace("min({key})::text", "(array_agg({key} ORDER BY {key}))[1]::text")
        with self._snapshot() as connection:
            found = connection.execute(self._sql(command, rows=sql.Literal(rows))).fetchall()
        firsts = [first for first, _, _ in found]
        return [
            Part(number=number, rows=count, token=json.dumps({"from": first, "before": before, "written": written}))
            for number, ((first, count, written), before) in enumerate(zip(found, [*firsts[1:], None], strict=True))
        ]

    def read(self, part: Part) -> pa.Table:
        """The rows of a range, in order of their keys."""
        token = json.loads(part.token)
        command = "SELECT xmin::text::bigint, {columns} FROM {table} WHERE {key} >= {first}::{kind}"
        if token["before"] is not None:
            command += " AND {key} < {before}::{kind}"
        query = self._sql(
            command + " ORDER BY {key}",
            columns=sql.SQL(", ").join(map(selected, self.columns)),
            first=sql.Literal(token["from"]),
            before=sql.Literal(token["before"]),
            kind=sql.Identifier(self._key.kind),
        )
        with self._snapshot() as connection, connection.cursor(binary=True) as cursor:
            found = cursor.execute(query).fetchall()
        written = str(sum(row[0] for row in found))
        if len(found) != part.rows or written != token["written"]:
            raise SourceError(
                f"{self.shown}: rows with {self._key.name!r} from {token['from']} on were changed after the import began: "
                f"want {part.rows} rows as they were, found {len(found)}, some of them newer. Run the same command "
                "again while nobody writes to the table, or import a copy of it"
            )
        return self._table([row[1:] for row in found])

    def _table(self, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
        """Rows of all columns, as the server sent them."""
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(self.columns)
        arrays = [array_of(column, values) for column, values in zip(self.columns, cells, strict=True)]
        return pa.table(arrays, schema=pa.schema([pa.field(one.name, arrow_type(one)) for one in self.columns]))

    @property
    def _key(self) -> Column:
        return next(column for column in self.columns if column.is_key)

    @property
    def _regclass(self) -> str:
        return sql.Identifier(*self.names).as_string()

    def _sql(self, command: str, **parts: sql.Composable) -> sql.Composed:
        names = {"table": sql.Identifier(*self.names)}
        if "{key}" in command:
            names["key"] = sql.Identifier(self._key.name)
        return sql.SQL(command).format(**{**names, **parts})

    @contextmanager
    def _snapshot(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in which all commands see one moment, and none can write."""
        try:
            with psycopg.connect(self.uri, connect_timeout=10) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                yield connection
        except psycopg.Error as error:
            raise SourceError(
                f"{self.shown}: {str(error).strip()[:300]}. Check the address, PGPASSWORD and the rights of this user, "
                "then run the same command again"
            ) from error


def _check(columns: Sequence[Column], shown: str) -> None:
    keys = [column.name for column in columns if column.is_key]
    if len(keys) != 1:
        raise SettingsError(
            f"{shown}: its primary key has {len(keys)} columns; want exactly one, by which rows are read in parts. Add a "
            "column with ALTER TABLE ... ADD COLUMN ... GENERATED ALWAYS AS IDENTITY, and make it the primary key of a copy"
        )
    if any(column.is_vector for column in columns):
        return
    unheld = [(column.name, column.kind) for column in columns if column.kind in _UNHELD]
    if unheld:
        name, kind = unheld[0]
        raise SettingsError(
            f"{shown}: column {name!r} is {kind}, that is {_UNHELD[kind]}; want dense numbers: add a column of type vector, "
            "filled with the embeddings that these were made of"
        )
    raise SettingsError(f"{shown}: has no column of type vector or halfvec; name the table that has the embeddings")
