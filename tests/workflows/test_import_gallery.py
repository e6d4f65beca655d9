"""A gallery in another system becomes a store: the rules of adopt, killed and resumed, and a table that changes meanwhile."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import DataError, FormatError, SettingsError, SourceError
from fct_ray.kinds import KeyType, Metric, VectorMetric
from fct_ray.shards import imported_part
from fct_ray.shards.imported_part import PartTask
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import ColumnNames
from fct_ray.workflows.import_gallery import ImportSettings, plan_import, run_import
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.verify import VerifySettings, verify_store

NUM = 900
RNG = np.random.default_rng(1)
VECTORS = RNG.normal(size=(NUM, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
KEYS = [uuid.UUID(int=int(number)) for number in RNG.integers(1, 2**62, NUM)]
COLUMNS = ColumnNames(id="doc_id")


def matrices(directory: Path, vectors: np.ndarray = VECTORS, keys: list[uuid.UUID] = KEYS) -> str:
    """Two matrices with UUIDs and a price beside them, as clip-retrieval writes them."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate((slice(0, 500), slice(500, NUM))):
        np.save(directory / f"vectors_{number}.npy", vectors[rows])
        raw = pa.array([key.bytes for key in keys[rows]], pa.binary(16))
        table = pa.table(
            {
                "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), raw),
                "price": pa.array(np.arange(NUM)[rows] / 4),
                "side_info": pa.array(vectors[rows, :3].tolist(), pa.list_(pa.float64())),
            }
        )
        pq.write_table(table, directory / f"metadata_{number}.parquet", row_group_size=128)
    return f"npy:{directory}"


def settings(tmp_path: Path, **changes: object) -> ImportSettings:
    given = ImportSettings(
        store=str(tmp_path / "store"),
        origin=f"npy:{tmp_path / 'vectors'}",
        columns=COLUMNS,
        encoder="api-v1",
        rows_per_shard=128,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def objects_of(store: Path) -> dict[str, str]:
    """Hashes of all shards and indexes."""
    files = sorted((store / "versions").rglob("shards/*.parquet"))
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, cluster: object) -> Path:
    directory = tmp_path_factory.mktemp("imported")
    matrices(directory / "vectors")
    run_import(plan_import(settings(directory)))
    return directory


def test_an_imported_gallery_is_a_whole_store(imported: Path) -> None:
    store = Store(str(imported / "store"))
    manifest = store.manifest()
    assert (manifest.num_rows, manifest.dimension, manifest.metric) == (NUM, 8, Metric.IP)
    assert (manifest.keys, manifest.normalized, len(manifest.shards)) == (KeyType.UUID, True, 8)
    assert manifest.side_info is not None
    assert manifest.side_info.dimension == 3
    assert not verify_store(VerifySettings(store=store.uri)).problems
    _, found = open_searcher(store.uri, "api-v1").search(VECTORS[[3, 700]], k=1)
    assert found.ravel().tolist() == [KEYS[3], KEYS[700]]
    table = pq.read_table(imported / "store" / manifest.shards[0].embeddings.path)
    assert table["price"].to_pylist() == [number / 4 for number in range(128)]
    np.testing.assert_allclose(table["side_info"].to_pylist(), VECTORS[:128, :3], rtol=1e-6)


def test_the_same_command_again_does_nothing(imported: Path) -> None:
    again = run_import(plan_import(settings(imported)))
    assert again.done_before
    assert again.published.version == 1


def test_an_interrupted_import_goes_on_and_equals_an_undisturbed_one(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vectors").symlink_to(imported / "vectors")
    vectors = np.load(imported / "vectors" / "vectors_1.npy")
    broken = vectors.copy()
    broken[200, 3] = np.nan
    matrices(tmp_path / "own", np.concatenate([VECTORS[:500], broken]))
    asked = settings(tmp_path, origin=f"npy:{tmp_path / 'own'}")
    with pytest.raises(DataError, match="part 5"):
        run_import(plan_import(asked))
    kept = {path.name for path in (tmp_path / "store/versions/000001/receipts").iterdir()}
    assert len(kept) == 7  # the others were finished
    assert Store(asked.store).current() is None
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store/versions/000001/shards").iterdir()}
    np.save(tmp_path / "own" / "vectors_1.npy", vectors)
    run_import(plan_import(asked))  # other files now, so another run with a version of its own
    wanted = objects_of(imported / "store")
    found = objects_of(tmp_path / "store")
    assert {name.rpartition("/")[2]: sha for name, sha in wanted.items()}.items() <= {
        name.rpartition("/")[2]: sha for name, sha in found.items() if "000002" in name
    }.items()
    assert all(path.stat().st_mtime_ns == written[path] for path in written)


def test_a_table_that_was_changed_meanwhile_is_refused_by_name(imported: Path, tmp_path: Path) -> None:
    matrices(tmp_path / "vectors")
    plan = plan_import(settings(tmp_path))
    matrices(tmp_path / "vectors", VECTORS[::-1].copy())
    with pytest.raises(SourceError, match="was changed since the import was planned"):
        run_import(plan)


def test_columns_that_are_missing_are_proposed_before_any_work(tmp_path: Path) -> None:
    matrices(tmp_path / "vectors")
    with pytest.raises(FormatError, match=r"has no column 'id'.*--columns\.id doc_id"):
        plan_import(settings(tmp_path, columns=ColumnNames()))


def test_an_id_that_is_there_twice_is_refused(cluster: object, tmp_path: Path) -> None:
    matrices(tmp_path / "vectors", keys=[*KEYS[:-1], KEYS[0]])
    with pytest.raises(DataError, match=str(KEYS[0])):
        run_import(plan_import(settings(tmp_path)))
    assert Store(str(tmp_path / "store")).current() is None


def test_vectors_that_are_scaled_or_cut_say_so(cluster: object, tmp_path: Path) -> None:
    matrices(tmp_path / "vectors", VECTORS * 3)
    cosine = run_import(plan_import(settings(tmp_path, metric=VectorMetric.COSINE))).published
    assert (cosine.metric, cosine.normalized) == (Metric.IP, True)
    plain = run_import(plan_import(settings(tmp_path, store=str(tmp_path / "plain")))).published
    assert not plain.normalized
    matrices(tmp_path / "unit")
    cut = settings(tmp_path, store=str(tmp_path / "cut"), origin=f"npy:{tmp_path / 'unit'}", truncate=4)
    published = run_import(plan_import(cut)).published
    assert (published.dimension, published.normalized) == (4, True)


def test_an_empty_table_and_side_information_that_is_not_there_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((0, 4), np.float32))
    with pytest.raises(SourceError, match="has no rows"):
        plan_import(settings(tmp_path, origin=f"npy:{tmp_path}", columns=ColumnNames(id="row")))
    (tmp_path / "bare").mkdir()
    np.save(tmp_path / "bare" / "a.npy", VECTORS)
    bare = settings(tmp_path, origin=f"npy:{tmp_path / 'bare'}", columns=ColumnNames(id="row"), side="s")
    with pytest.raises(FormatError, match="no column of side-information"):
        plan_import(bare)
    with pytest.raises(SettingsError, match="is no system that a gallery can be imported from"):
        plan_import(replace(bare, origin="mystery:place"))


def test_only_one_part_is_in_memory_at_a_time(tmp_path: Path) -> None:
    plan_of = plan_import(settings(Path(matrices(tmp_path / "vectors").removeprefix("npy:")).parent))
    assert [part.rows for part in plan_of.parts] == [128, 128, 128, 116, 128, 128, 128, 16]
    assert PartTask(part=plan_of.parts[0], first_id=0)
    assert imported_part.part_name("npy:x", plan_of.parts[3]) == 'npy:x part 3 (["0", 384, 500])'
