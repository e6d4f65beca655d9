"""Tables of PostgreSQL with the extension pgvector.

    NAME_v000002           the new table, filled by COPY, one transaction a shard, then indexed
    NAME_v000002_shards    which shards are in it, written in the same transactions; dropped at the switch
    NAME_before_v000002    what was NAME before, if it was replaced

Owns: that, and the switch: one transaction that renames. The comment of a table says which export made it. The password comes
from PGPASSWORD or a password file, as libpq knows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from fct_ray.connectors import pgvector_values
from fct_ray.connectors.places import Place, table_of
from fct_ray.connectors.protocols import Present, Target
from fct_ray.errors import SettingsError, StoreError
from fct_ray.kinds import Metric

MOST_DIMENSIONS = 16_000
MOST_INDEXED, MOST_INDEXED_HALF = 2_000, 4_000
"""HNSW indexes take so many dimensions of float32, and so many of float16, to which longer vectors are cast in the index."""
_LONGEST_NAME = 63


def open_destination(place: Place, target: Target) -> PgvectorTable:
    """The table that a place names, `NAME` or `SCHEMA.NAME`. Raises SettingsError: it names none."""
    schema, dot, name = table_of(place).rpartition(".")
    suffixes = (target.stage_name(name) + "_shards", f"{target.stage_name(name)}_embedding_idx")
    if max(map(len, suffixes)) > _LONGEST_NAME:
        raise SettingsError(f"{place}: the name of the table is too long for PostgreSQL; want at most 42 characters")
    return PgvectorTable(uri=place.address, namespace=schema if dot else None, name=name, target=target)


@dataclass(frozen=True, kw_only=True)
class PgvectorTable:
    """One table with a primary key and a column of type vector."""

    uri: str
    namespace: str | None
    name: str
    target: Target

    def check(self) -> None:
        """Refuse dimensions and columns that the database cannot hold, and a database without pgvector."""
        schema = self.target.schema
        if schema.dimension > MOST_DIMENSIONS:
            raise SettingsError(
                f"pgvector holds vectors of at most {MOST_DIMENSIONS:,} dimensions, the version has {schema.dimension:,}"
            )
        for field in schema.carried:
            pgvector_values.sql_type(field)
        with self._connected() as connection:
            found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        if found is None:
            raise SettingsError(f"{self._shown}: this server has no pgvector; install the extension `vector` there")

    def present(self) -> Present:
        """What the table of this name says of its origin."""
        with self._connected() as connection:
            return self._present(connection)

    def prepare(self, written: Sequence[str]) -> bool:
        """Create the new table, and the list of its shards, unless an earlier attempt of this run did."""
        with self._connected() as connection, connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            if self._comment(connection, self._stage) == self.target.mark:
                return True
            if self._comment(connection, self._stage) is not None:
                raise SettingsError(
                    f"{self._shown}: a table {self._stage}, which this export did not make, is in the way; rename or drop it"
                )
            self._run(connection, "CREATE TABLE {stage} ({columns})", columns=self._columns())
            self._run(connection, "CREATE TABLE {shards} (shard integer PRIMARY KEY)")
            self._run(connection, "COMMENT ON TABLE {stage} IS {mark}", mark=sql.Literal(self.target.mark))
        return not written

    def write(self, shard: int, rows: pa.Table) -> str:
        """COPY the rows in one transaction with the mark of the shard; where the mark is there, so are the rows."""
        names = sql.SQL(", ").join(sql.Identifier(name) for name in rows.column_names)
        with self._connected() as connection, connection.transaction():
            marked = self._run(
                connection, "INSERT INTO {shards} VALUES ({number}) ON CONFLICT DO NOTHING", number=sql.Literal(shard)
            )
            if marked.rowcount == 0:
                return ""
            command = self._sql("COPY {stage} ({names}) FROM STDIN", names=names)
            with connection.cursor().copy(command) as copy:
                for row in pgvector_values.rows_of(rows, self.target.schema):
                    copy.write_row(row)
        return ""

    def finish(self, written: Sequence[str]) -> None:
        """Make ids the primary key, and build the HNSW index for the metric of the version."""
        del written
        schema = self.target.schema
        with self._connected() as connection:
            key = sql.Identifier(f"{self._stage}_pkey")
            if not self._has_index(connection, f"{self._stage}_pkey"):
                self._run(
                    connection,
                    "ALTER TABLE {stage} ADD CONSTRAINT {key} PRIMARY KEY ({column})",
                    key=key,
                    column=sql.Identifier(schema.id_column),
                )
            name = f"{self._stage}_embedding_idx"
            if schema.dimension <= MOST_INDEXED_HALF and not self._has_index(connection, name):
                self._run(
                    connection,
                    "CREATE INDEX {index} ON {stage} USING hnsw ({what} {ops})",
                    index=sql.Identifier(name),
                    what=self._indexed(),
                    ops=sql.SQL(self._ops(connection)),
                )
            self._run(connection, "ANALYZE {stage}")

    def count(self) -> int:
        """Rows of the new table."""
        with self._connected() as connection:
            row = self._run(connection, "SELECT count(*) FROM {stage}").fetchone()
        return 0 if row is None else int(row[0])

    def fetch(self, ids: pa.Array) -> pa.Table:
        """Rows of the new table, by their ids."""
        schema = self.target.schema
        kept = [field for field in schema.columns if pgvector_values.is_kept(field)]
        with self._connected() as connection:
            rows = self._run(
                connection,
                "SELECT {names} FROM {stage} WHERE {column} = ANY({ids})",
                names=sql.SQL(", ").join(pgvector_values.selected(field, schema) for field in kept),
                column=sql.Identifier(schema.id_column),
                ids=sql.Literal(pgvector_values.ids_of(ids, schema)),
            ).fetchall()
        return pgvector_values.table_of_rows(rows, kept, schema)

    def switch(self) -> Sequence[str]:
        """Rename in one transaction: the table in use out of the way, the new one into its place."""
        notes, before = [], f"{self.name}_before_v{self.target.version:06d}"
        with self._connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self.name])
            present = self._present(connection)
            if present is Present.OTHER:
                if not self.target.replace:
                    raise SettingsError(
                        f"{self._shown}: was made by somebody else meanwhile; add --replace to replace it"
                    )
                if self._comment(connection, before) is not None:
                    raise SettingsError(
                        f"{self._shown}: a table {before} is in the way; drop or rename it, then run the same command again"
                    )
                self._run(connection, "ALTER TABLE {table} RENAME TO {before}", before=sql.Identifier(before))
            if present is not Present.OURS:
                self._run(connection, "ALTER TABLE {stage} RENAME TO {name}", name=sql.Identifier(self.name))
                self._run(connection, "DROP TABLE IF EXISTS {shards}")
            if self._comment(connection, before) is not None:
                notes.append(f"the former table is now {before}; drop it when nobody needs it")
        if self.target.schema.dimension > MOST_INDEXED_HALF:
            notes.append(f"there is no index: pgvector indexes at most {MOST_INDEXED_HALF:,} dimensions")
        operator = {"vector_ip_ops": "<#>", "vector_l2_ops": "<->"}[_OPS[self.target.schema.metric]]
        notes.append(
            f"search it with ORDER BY {self.target.schema.embedding_column} {operator} (or <=> on vectors of length 1)"
        )
        return notes

    @property
    def _stage(self) -> str:
        return self.target.stage_name(self.name)

    @property
    def _shown(self) -> str:
        return f"pgvector:{self.uri}#{self.name}"

    def _columns(self) -> sql.Composable:
        schema = self.target.schema
        return sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(pgvector_values.column_type(field, schema)))
            for field in schema.columns
        )

    def _indexed(self) -> sql.Composable:
        column, dimension = sql.Identifier(self.target.schema.embedding_column), self.target.schema.dimension
        if dimension <= MOST_INDEXED:
            return column
        return sql.SQL("({}::halfvec({}))").format(column, sql.Literal(dimension))

    def _ops(self, connection: psycopg.Connection[Any]) -> str:
        """The operator class of the metric; the cosine, where unit vectors replace a table that was searched by it."""
        schema, ops = self.target.schema, _OPS[self.target.schema.metric]
        indexes = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND schemaname = coalesce(%s, current_schema())",
            [self.name, self.namespace],
        ).fetchall()
        if schema.metric is Metric.IP and schema.normalized and any("cosine_ops" in row[0] for row in indexes):
            ops = "vector_cosine_ops"
        return ops if schema.dimension <= MOST_INDEXED else ops.replace("vector_", "halfvec_")

    def _has_index(self, connection: psycopg.Connection[Any], name: str) -> bool:
        found = connection.execute(
            "SELECT 1 FROM pg_indexes WHERE indexname = %s AND schemaname = coalesce(%s, current_schema())",
            [name, self.namespace],
        )
        return found.fetchone() is not None

    def _present(self, connection: psycopg.Connection[Any]) -> Present:
        comment = self._comment(connection, self.name)
        if comment is None:
            return Present.NOTHING
        return Present.OURS if comment == self.target.mark else Present.OTHER

    def _comment(self, connection: psycopg.Connection[Any], name: str) -> str | None:
        """The comment of a table, "" where it has none; None where there is no such table."""
        row = connection.execute(
            "SELECT coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c JOIN pg_namespace n ON n.oid = "
            "c.relnamespace WHERE c.relname = %s AND n.nspname = coalesce(%s, current_schema())",
            [name, self.namespace],
        ).fetchone()
        return None if row is None else str(row[0])

    def _run(self, connection: psycopg.Connection[Any], command: str, **parts: sql.Composable) -> psycopg.Cursor[Any]:
        return connection.execute(self._sql(command, **parts))

    def _sql(self, command: str, **parts: sql.Composable) -> sql.Composed:
        names = {"table": self.name, "stage": self._stage, "shards": f"{self._stage}_shards"}
        tables = {
            key: sql.Identifier(*(part for part in (self.namespace, name) if part)) for key, name in names.items()
        }
        return sql.SQL(command).format(**{**tables, **parts})

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection that commits statement by statement; whoever wants more asks for a transaction."""
        try:
            with psycopg.connect(self.uri, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.Error as error:
            raise StoreError(
                f"{self._shown}: {str(error).strip()[:300]}. Check the address, PGPASSWORD and the rights of this user, "
                "then run the same command again"
            ) from error


_OPS = {Metric.IP: "vector_ip_ops", Metric.L2: "vector_l2_ops"}
