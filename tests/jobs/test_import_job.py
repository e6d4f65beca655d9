"""`fct-ray import` as users run it: killed with SIGKILL it ends as an undisturbed one, and a large file is read in parts."""

from __future__ import annotations

import uuid
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.engine.cluster import ClusterSize
from fct_ray.storage.store import Store
from fct_ray.values import Receipt
from tests.jobs.conftest import report_of, run_and_kill, run_job

ROWS = 24_000


def receipts(store: Path) -> list[Path]:
    return sorted(store.glob("versions/000001/receipts/*.json"))


def contents(store: Path) -> dict[str, bytes]:
    """Every shard of the version, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted(store.glob("versions/000001/shards/*.parquet"))}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, cluster: ClusterSize) -> str:
    """A Delta table of UUIDs in one file of one row group."""
    directory = tmp_path_factory.mktemp("delta")
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(ROWS, 64)).astype(np.float32)
    rows = pa.table(
        {
            "doc": pa.array([str(uuid.UUID(int=2**80 + int(number))) for number in rng.permutation(ROWS)]),
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 64).cast(pa.list_(pa.float32())),
            "price": rng.random(ROWS),
        }
    )
    deltalake.write_deltalake(str(directory), rows)
    return f"delta:{directory}"


@pytest.mark.journey
def test_an_import_that_was_killed_twice_ends_as_an_undisturbed_one(table: str, tmp_path: Path) -> None:
    asked: tuple[str, ...] = (
        "--origin",
        table,
        "--encoder",
        "api-v1",
        "--columns.id",
        "doc",
        "--columns.embedding",
        "emb",
    )
    asked = (*asked, "--rows-per-shard", "1000")
    run_job("embed", "import", "--store", tmp_path / "calm", *asked)
    store = tmp_path / "killed"
    for number in (1, 8):
        run_and_kill(lambda: len(receipts(store)) >= number, "embed", "import", "--store", store, *asked)  # noqa: B023
        assert Store(str(store)).current() is None, "nobody sees a part of it"
    kept = {path: path.stat().st_mtime_ns for path in receipts(store)}
    assert 8 <= len(kept) < 24
    report = report_of(run_job("embed", "import", "--store", store, *asked))
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items()), "no part was read again"
    assert contents(store) == contents(tmp_path / "calm")
    assert len(contents(store)) == 24
    calm, killed = Store(str(tmp_path / "calm")).manifest(), Store(str(store)).manifest()
    assert (killed.shards, killed.keys, killed.normalized) == (calm.shards, calm.keys, calm.normalized)
    assert report["rows"] == ROWS
    assert "nothing to do" in run_job("embed", "import", "--store", store, *asked).stdout


@pytest.mark.journey
def test_one_large_file_is_read_by_all_workers_a_part_at_a_time(cluster: ClusterSize, tmp_path: Path) -> None:
    dimension, part = 512, 4_000  # 8 MB a part
    peaks, workers = {}, {}
    for name, rows in (("small", 8_000), ("large", 120_000)):  # 16 MB, 246 MB
        directory = tmp_path / name
        directory.mkdir()
        matrix = np.lib.format.open_memmap(directory / "a.npy", mode="w+", dtype=np.float32, shape=(rows, dimension))
        matrix[:] = np.random.default_rng(0).random((rows, dimension), np.float32)
        del matrix
        pq.write_table(pa.table({"id": np.arange(rows)}), directory / "a.parquet")
        store = tmp_path / f"{name}-store"
        run_job(
            "embed",
            "import",
            "--store",
            store,
            "--origin",
            f"npy:{directory}",
            "--encoder",
            "m",
            "--rows-per-shard",
            part,
        )
        found: list[Receipt] = Store(str(store)).receipts(1)
        peaks[name] = max(receipt.peak_memory_bytes for receipt in found)
        workers[name] = {receipt.worker for receipt in found}
        assert len(found) == rows // part
    assert len(workers["large"]) == cluster.num_cpus
    assert peaks["large"] < peaks["small"] + 60_000_000, "by the parts, not by the file"
