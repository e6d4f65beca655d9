"""Every destination, with its real system: what is written comes back, twice is once, and what is not ours stays.

They are driven as the workflow drives them, in one process.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import faiss
import lancedb
import numpy as np
import psycopg
import pyarrow as pa
import pytest

from fct_ray.connectors.places import parse_place
from fct_ray.connectors.protocols import Destination, Present, Target, TargetSchema
from fct_ray.connectors.registry import open_destination
from fct_ray.errors import SettingsError, StoreError
from fct_ray.index.build import train_index
from fct_ray.kinds import KeyType, Metric
from fct_ray.shards.faiss_destination import FaissFile
from fct_ray.storage.vector_columns import vector_array
from tests.keyed_stores import as_column, uuids

SHARDS, ROWS, DIMENSION = 3, 400, 8
KEYS: dict[KeyType | None, list[Any]] = {
    None: list(range(5, 5 + SHARDS * ROWS)),
    KeyType.UUID: uuids(SHARDS * ROWS),
    KeyType.STRING: [f'it\'s "{n}"' for n in range(SHARDS * ROWS)],
    KeyType.BINARY: [n.to_bytes(3, "big") for n in range(SHARDS * ROWS)],
}
Opened = Callable[[Target], Destination]


def rows(key_type: KeyType | None) -> pa.Table:
    """All rows: ids or keys, unit vectors, text, numbers with nulls, lists."""
    count = SHARDS * ROWS
    vectors_ND = np.random.default_rng(3).normal(size=(count, DIMENSION)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    keys = KEYS[key_type]
    ids = pa.array(keys, pa.int64()) if key_type is None else as_column(keys, key_type)
    return pa.table(
        {
            "id": ids,
            "embedding": vector_array(vectors_ND, "float32"),
            "title": [f"tab\there, new\nline \\ {n}" for n in range(count)],
            "price": [None if n % 7 == 0 else n / 4 for n in range(count)],
        }
    )


def target(
    table: pa.Table, key_type: KeyType | None, *, run: str = "export-000000000001", replace: bool = False
) -> Target:
    """Version 2 of a store with these rows."""
    schema = TargetSchema(
        columns=table.schema,
        id_column="id",
        embedding_column="embedding",
        key_type=key_type,
        dimension=DIMENSION,
        metric=Metric.IP,
        normalized=True,
        num_rows=table.num_rows,
    )
    return Target(run=run, version=2, schema=schema, replace=replace)


@pytest.fixture(params=["parquet", "huggingface", "lancedb", "pgvector", "faiss"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Opened]]:
    """The name of a system, and a way to open one fresh place there."""
    system = request.param
    if system == "faiss":
        yield (
            system,
            lambda to: FaissFile(path=f"{tmp_path}/all.faiss", target=to, factory="Flat", on_disk=False, template=None),
        )
        return
    if system == "pgvector":
        uri = request.getfixturevalue("postgres")
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS vector CASCADE"
            )
        place = parse_place(f"pgvector:{uri}#items")
    else:
        place = parse_place(f"{system}:{tmp_path}/place" + ("#items" if system == "lancedb" else ""))
    yield system, lambda to: open_destination(place, to)


def fill(destination: Destination, table: pa.Table) -> list[str]:
    """Everything before the switch, each shard written by a copy, as workers have; the second one twice."""
    destination.check()
    destination.prepare([])
    written: list[str] = []
    for shard in (0, 1, 1, 2):
        copy: Destination = pickle.loads(pickle.dumps(destination))  # noqa: S301
        token = copy.write(shard, table.slice(shard * ROWS, ROWS))
        written = [*written[:shard], token]
    destination.finish(written)
    return written


@pytest.mark.parametrize("key_type", KEYS)
def test_what_is_written_comes_back_and_a_shard_written_twice_is_there_once(
    opened: tuple[str, Opened], key_type: KeyType | None
) -> None:
    system, open_at = opened
    table = rows(key_type)
    if system == "faiss" and key_type is not None:
        with_ids = table.append_column("row_id", pa.array(np.arange(table.num_rows)))
        schema = replace(target(with_ids, key_type).schema, row_id_column="row_id")
        table, to = with_ids, replace(target(with_ids, key_type), schema=schema)
    else:
        to = target(table, key_type)
    destination = open_at(to)
    assert destination.present() is Present.NOTHING
    fill(destination, table)
    assert destination.count() == table.num_rows
    wanted = table.take(pa.array([0, 401, 1199]))
    found = destination.fetch(wanted["id"].combine_chunks())
    found = found.take([found["id"].to_pylist().index(key) for key in wanted["id"].to_pylist()])
    for name in table.column_names:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name
    assert destination.present() is Present.NOTHING, "nothing is seen before the switch"
    destination.switch()
    assert open_at(to).present() is Present.OURS
    open_at(to).switch()  # done twice it is done once
    assert open_at(to).present() is Present.OURS


def test_a_killed_export_goes_on_with_what_is_there_and_begins_anew_where_it_is_gone(
    opened: tuple[str, Opened],
) -> None:
    _, open_at = opened
    table = rows(None)
    to = target(table, None)
    first = open_at(to)
    first.prepare([])
    written = [first.write(shard, table.slice(shard * ROWS, ROWS)) for shard in (0, 1)]
    second = open_at(to)  # another process
    assert second.prepare(written)
    written.append(second.write(2, table.slice(2 * ROWS, ROWS)))
    second.finish(written)
    third = open_at(to)  # killed between the fill and the switch
    assert third.prepare(written)
    third.finish(written)
    assert third.count() == table.num_rows
    third.switch()


def test_what_another_one_made_stays_unless_it_is_to_be_replaced(opened: tuple[str, Opened]) -> None:
    _, open_at = opened
    table = rows(None)
    theirs = open_at(target(table, None, run="export-00000000aaaa"))
    fill(theirs, table)
    theirs.switch()
    ours = open_at(target(table, None))
    assert ours.present() is Present.OTHER
    fill(ours, table)
    with pytest.raises(SettingsError, match="--replace"):
        ours.switch()
    assert theirs.present() is Present.OURS
    replacing = open_at(target(table, None, replace=True))
    fill(replacing, table)
    replacing.switch()
    assert open_at(target(table, None)).present() is Present.OURS


def test_the_datasets_library_opens_what_huggingface_wrote(tmp_path: Path) -> None:
    table = rows(KeyType.UUID)
    destination = open_destination(parse_place(f"huggingface:{tmp_path}/set"), target(table, KeyType.UUID))
    fill(destination, table)
    destination.switch()
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded.num_rows == table.num_rows
    assert loaded[0]["id"] == str(KEYS[KeyType.UUID][0])
    assert np.allclose(loaded[0]["embedding"], table["embedding"][0].as_py())


def test_lancedb_finds_an_items_own_vector_and_the_former_version_can_be_restored(tmp_path: Path) -> None:
    before = lancedb.connect(tmp_path).create_table("items", data=pa.table({"theirs": [1, 2, 3]}))
    version, table = before.version, rows(KeyType.STRING)
    destination = open_destination(
        parse_place(f"lancedb:{tmp_path}#items"), target(table, KeyType.STRING, replace=True)
    )
    fill(destination, table)
    assert before.count_rows() == 3, "readers see the former table until the switch"
    notes = destination.switch()
    now = lancedb.connect(tmp_path).open_table("items")
    query = table["embedding"][17].as_py()
    search: Any = now.search(query, "embedding")
    assert search.distance_type("dot").limit(1).to_list()[0]["id"] == KEYS[KeyType.STRING][17]
    assert any(f"restore({version})" in note for note in notes)
    now.restore(version)
    assert now.count_rows() == 3


def test_pgvector_answers_by_its_index_and_keeps_the_former_table(postgres: str) -> None:
    table = rows(KeyType.UUID)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS vector CASCADE")
        connection.execute("CREATE EXTENSION vector; CREATE TABLE items (id uuid PRIMARY KEY, embedding vector(2))")
        connection.execute("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)")
        destination = open_destination(
            parse_place(f"pgvector:{postgres}#items"), target(table, KeyType.UUID, replace=True)
        )
        fill(destination, table)
        destination.switch()
        query = str(table["embedding"][17].as_py())
        ask = "SELECT id FROM items ORDER BY embedding <=> %s::vector LIMIT 1"
        connection.execute("SET enable_seqscan = off")
        assert connection.execute(ask, [query]).fetchone() == (KEYS[KeyType.UUID][17],)
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {ask}", [query]).fetchall())
        assert "items_v000002_embedding_idx" in plan, "unit vectors that replace a cosine index get one"
        assert connection.execute("SELECT count(*) FROM items_before_v000002").fetchone() == (0,)


def test_an_index_whose_lists_lie_on_the_disk_answers_as_one_in_memory(tmp_path: Path) -> None:
    table = rows(None)
    vectors_ND = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    template = train_index("IVF8,Flat", DIMENSION, Metric.IP, vectors_ND, 0)
    found = {}
    for on_disk in (False, True):
        path = f"{tmp_path}/{on_disk}.faiss"
        destination = FaissFile(
            path=path, target=target(table, None), factory="IVF8,Flat", on_disk=on_disk, template=template
        )
        fill(destination, table)
        destination.switch()
        index: Any = faiss.read_index(path)
        index.nprobe = 8
        assert index.ntotal == table.num_rows
        found[on_disk] = index.search(vectors_ND[:50], 5)
        assert (found[on_disk][1][:, 0] == np.arange(5, 55)).all()
    np.testing.assert_array_equal(found[True][1], found[False][1])


def test_a_server_that_does_not_answer_is_named_before_any_work() -> None:
    place = parse_place("pgvector:postgresql://me@127.0.0.1:1/db#items")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/db#items"):
        open_destination(place, target(rows(None), None)).check()


def test_more_dimensions_than_pgvector_holds_are_refused_before_the_server_is_asked() -> None:
    place, to = parse_place("pgvector:postgresql://me@127.0.0.1:1/db#items"), target(rows(None), None)
    with pytest.raises(SettingsError, match="16,000"):
        open_destination(place, replace(to, schema=replace(to.schema, dimension=20_000))).check()


def test_a_system_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(SettingsError, match="faiss, huggingface, lancedb, parquet, pgvector"):
        open_destination(parse_place("oracle:db#t"), target(rows(None), None))
