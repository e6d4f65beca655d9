"""Tables of a real PostgreSQL with pgvector: all rows come once, in parts, and a change in mid-run is found out."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from fct_ray.connectors.protocols import ForeignTable
from fct_ray.connectors.tables import open_table
from fct_ray.errors import FormatError, SettingsError, SourceError
from fct_ray.kinds import KeyType, VectorMetric
from fct_ray.workflows.adopt import ColumnNames
from fct_ray.workflows.import_gallery import ImportSettings, plan_import
from tests.keyed_stores import uuids

ROWS, DIMENSION, PER_PART = 250, 8, 100
VECTORS_ND = np.random.default_rng(3).normal(size=(ROWS, DIMENSION)).astype(np.float32)
KEYS: dict[str, list[Any]] = {
    "bigint": [7 * n - 300 for n in range(ROWS)],
    "text": [f'it\'s "{n}" é' for n in range(ROWS)],
    "uuid": uuids(ROWS),
}


@pytest.fixture
def database(postgres: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """An empty database with pgvector, and a connection to it."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS vector CASCADE")
        connection.execute("CREATE EXTENSION vector")
        yield postgres, connection


def fill(connection: psycopg.Connection[Any], key: str, vector: str = f"vector({DIMENSION})") -> None:
    """A table `items` with 250 rows."""
    connection.execute(f"CREATE TABLE items (id {key} PRIMARY KEY, e {vector}, about jsonb, price numeric(8, 2))")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO items VALUES (%s, %s, %s, %s)",
            [
                (one, str(vector_D.tolist()), f'{{"n": {n}}}', None if n % 7 == 0 else n / 4)
                for n, (one, vector_D) in enumerate(zip(KEYS[key], VECTORS_ND, strict=True))
            ],
        )


def all_rows(table: ForeignTable) -> pa.Table:
    """The whole table, each part read by a copy, as workers have."""
    parts = table.parts(PER_PART)
    assert [part.rows for part in parts] == [100, 100, 50]
    read = [pickle.loads(pickle.dumps(table)).read(part) for part in parts]  # noqa: S301
    assert all(one.schema == table.head(3).schema for one in read)
    return pa.concat_tables(read)


@pytest.mark.parametrize("key", KEYS)
def test_pgvector_gives_every_row_once_with_keys_of_any_type(
    database: tuple[str, psycopg.Connection[Any]], key: str
) -> None:
    uri, connection = database
    fill(connection, key)
    rows = all_rows(open_table(f"pgvector:{uri}#items"))
    keys = [uuid.UUID(bytes=one) for one in rows["id"].to_pylist()] if key == "uuid" else rows["id"].to_pylist()
    assert sorted(keys) == sorted(KEYS[key])
    order = [KEYS[key].index(one) for one in keys]
    np.testing.assert_array_equal(np.array(rows["e"].to_pylist(), np.float32), VECTORS_ND[order])
    assert rows["about"].to_pylist() == [f'{{"n": {n}}}' for n in order]
    assert [value is None for value in rows["price"].to_pylist()] == [n % 7 == 0 for n in order]


def test_pgvector_gives_half_precision_undeclared_dimensions_and_nulls(
    database: tuple[str, psycopg.Connection[Any]],
) -> None:
    uri, connection = database
    fill(connection, "bigint", f"halfvec({DIMENSION})")
    connection.execute("ALTER TABLE items ADD COLUMN free vector")
    connection.execute("UPDATE items SET free = '[1,2,3]' WHERE id > 0; UPDATE items SET e = NULL WHERE id = 1")
    rows = all_rows(open_table(f"pgvector:{uri}#items"))
    assert rows.schema.field("e").type == pa.list_(pa.float16(), DIMENSION)
    vectors = dict(zip(rows["id"].to_pylist(), rows["e"].to_pylist(), strict=True))
    assert vectors[1] is None
    np.testing.assert_array_equal(np.array(vectors[-300]), VECTORS_ND[0].astype(np.float16))
    assert rows["free"].to_pylist() == [[1, 2, 3] if one > 0 else None for one in rows["id"].to_pylist()]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE items SET e = '[0,0,0,0,0,0,0,1]' WHERE id = 1",
        "DELETE FROM items WHERE id = 1",
        "INSERT INTO items (id) VALUES (2)",
        "DELETE FROM items WHERE id = 1; INSERT INTO items (id) VALUES (2)",
    ],
)
def test_pgvector_refuses_a_part_that_was_changed_after_the_parts_were_made(
    database: tuple[str, psycopg.Connection[Any]], change: str
) -> None:
    uri, connection = database
    fill(connection, "bigint")
    place = f"pgvector:{uri}#items"
    table = open_table(place)
    before, parts = table.mark, table.parts(PER_PART)
    connection.execute(change)
    table.read(parts[1])
    with pytest.raises(SourceError, match="changed after the import began"):
        table.read(parts[0])
    assert open_table(place).mark != before


@pytest.mark.parametrize(
    ("operators", "metric"),
    [("cosine", VectorMetric.COSINE), ("ip", VectorMetric.IP), ("l2", VectorMetric.L2), (None, None)],
)
def test_pgvector_takes_the_metric_from_the_index(
    database: tuple[str, psycopg.Connection[Any]], operators: str | None, metric: VectorMetric | None
) -> None:
    uri, connection = database
    fill(connection, "bigint")
    if operators:
        connection.execute(f"CREATE INDEX ON items USING hnsw (e vector_{operators}_ops)")
    assert open_table(f"pgvector:{uri}#items").metric is metric


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("id int PRIMARY KEY, e bit(8)", "binary codes"),
        ("id int PRIMARY KEY, e sparsevec(8)", "sparse vectors"),
        ("id int PRIMARY KEY, e text", "no column of type vector"),
        ("id int, e vector(8)", "0 columns"),
        ("a int, b int, e vector(8), PRIMARY KEY (a, b)", "2 columns"),
    ],
)
def test_pgvector_refuses_tables_that_cannot_be_read_in_parts_or_hold_no_dense_vectors(
    database: tuple[str, psycopg.Connection[Any]], columns: str, says: str
) -> None:
    uri, connection = database
    connection.execute(f"CREATE TABLE items ({columns})")
    with pytest.raises(SettingsError, match=says):
        open_table(f"pgvector:{uri}#items")


def test_a_table_or_server_that_is_not_there_is_named(
    database: tuple[str, psycopg.Connection[Any]],
) -> None:
    for place in (
        f"pgvector:{database[0]}#none",
        "pgvector:postgresql://me@127.0.0.1:1/db#none",
    ):
        with pytest.raises(SourceError, match="#none"):
            open_table(place)
    with pytest.raises(SettingsError, match="pgvector"):
        open_table("oracle:db#t")


def test_an_import_of_a_table_is_planned_by_its_columns_before_any_work(
    database: tuple[str, psycopg.Connection[Any]], tmp_path: Path
) -> None:
    place, connection = database
    fill(connection, "uuid")
    asked = ImportSettings(
        store=str(tmp_path / "store"), origin=f"pgvector:{place}#items", encoder="m", rows_per_shard=PER_PART
    )
    with pytest.raises(FormatError, match=r"--columns\.embedding e$"):
        plan_import(asked)
    plan = plan_import(replace(asked, columns=ColumnNames(embedding="e")))
    assert [part.rows for part in plan.parts] == [100, 100, 50]
    assert (plan.reading.keys, plan.dimension) == (KeyType.UUID, DIMENSION)
    assert not (tmp_path / "store").exists()
