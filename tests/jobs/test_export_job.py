"""`fct-ray export` as users run it: killed with SIGKILL at several points, the same command ends as an undisturbed one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lancedb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import report_of, run_and_kill, run_job
from tests.postgres_server import postgres_server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URI of a real server with pgvector."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory, postgres_server(Path(directory)) as uri:
        yield uri


def receipts(store: Path) -> list[Path]:
    return list(store.glob("runs/export-*/exported/*.json"))


def rows_at(directory: Path) -> pa.Table:
    """All rows of exported Parquet files, by id."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(directory.glob("*.parquet"))]).sort_by("id")


@pytest.mark.journey
def test_an_export_to_parquet_that_was_killed_among_its_shards_ends_as_an_undisturbed_one(
    shop: Path, tmp_path: Path
) -> None:
    run_job("export", "--store", shop, "--to", f"parquet:{tmp_path}/calm")
    for path in receipts(shop):
        path.unlink()
    killed = ("--store", shop, "--to", f"parquet:{tmp_path}/killed")
    run_and_kill(lambda: len(receipts(shop)) >= 1, "export", *killed)
    assert not (tmp_path / "killed").exists(), "nobody sees a part of it"
    report = report_of(run_job("export", *killed))
    assert rows_at(tmp_path / "killed").equals(rows_at(tmp_path / "calm"))
    assert report["stages"]["stream"]["rows"] == 6000, "the work of both attempts, each shard once"
    assert [path.name for path in tmp_path.glob("killed*")] == ["killed"]
    assert "nothing to do" in run_job("export", *killed).stdout


@pytest.mark.journey
def test_an_export_to_pgvector_that_was_killed_before_its_switch_ends_as_an_undisturbed_one(
    shop: Path, postgres: str
) -> None:
    run_job("export", "--store", shop, "--to", f"pgvector:{postgres}#calm")
    for path in receipts(shop):
        path.unlink()
    killed = ("--store", shop, "--to", f"pgvector:{postgres}#killed")
    with psycopg.connect(postgres, autocommit=True) as connection:
        run_and_kill(lambda: len(receipts(shop)) >= 1, "export", *killed)  # among the shards
        connection.execute("SELECT pg_advisory_lock(hashtext('killed'))")  # the switch waits for it
        run_and_kill(
            lambda: any(shop.glob("runs/export-*/usage/verify-*.json")) and _waits(connection), "export", *killed
        )
        assert connection.execute("SELECT to_regclass('killed')").fetchone() == (None,)
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        connection.execute("SELECT pg_advisory_unlock_all()")
        run_job("export", *killed)
        ask = "SELECT id, embedding::text, label FROM {} ORDER BY id"
        assert connection.execute(ask.format("killed")).fetchall() == connection.execute(ask.format("calm")).fetchall()
        tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'killed%' AND relkind = 'r'"
        assert connection.execute(tables).fetchone() == (1,), "nothing is left over"


def _waits(connection: psycopg.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
    return found is not None


@pytest.mark.journey
def test_a_place_that_is_occupied_is_refused_by_name_and_replaced_only_when_asked(shop: Path, tmp_path: Path) -> None:
    lancedb.connect(tmp_path).create_table("items", data=pa.table({"theirs": [1]}))
    to = ("--store", shop, "--to", f"lancedb:{tmp_path}#items")
    refused = run_job("export", *to, expect=2)
    assert f"lancedb:{tmp_path}#items" in refused.stderr
    assert "--replace" in refused.stderr
    report = report_of(run_job("export", *to, "--replace"))
    assert lancedb.connect(tmp_path).open_table("items").count_rows() == 6000
    assert json.dumps(report["notes"]).count("restore(1)") == 1
