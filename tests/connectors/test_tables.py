"""Every system that a gallery can be imported from, by its own library: the table comes back whole, part by part."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.connectors.spans import parts_of
from fct_ray.connectors.tables import open_table
from fct_ray.errors import SettingsError, SourceError

NUM = 250
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(NUM, 6)).astype(np.float32)
NAMES = [f"item {number:04d}" for number in range(NUM)]


def gallery(numbers: range = range(NUM)) -> pa.Table:
    return pa.table(
        {
            "doc": pa.array([NAMES[number] for number in numbers]),
            "emb": pa.array([VECTORS[number].tolist() for number in numbers], pa.list_(pa.float32())),
            "year": pa.array([1900 + number for number in numbers], pa.int32()),
        }
    )


def npy(directory: Path) -> str:
    for number, rows in enumerate((range(100), range(100, 230), range(230, NUM))):
        name = f"{number + 9}"  # 9, 10, 11: as text 10 comes first
        (directory / "img_emb").mkdir(exist_ok=True)
        (directory / "metadata").mkdir(exist_ok=True)
        np.save(directory / "img_emb" / f"img_emb_{name}.npy", VECTORS[rows.start : rows.stop])
        metadata = gallery(rows).drop_columns(["emb"])
        pq.write_table(metadata, directory / "metadata" / f"metadata_{name}.parquet", row_group_size=30)
    return f"npy:{directory}"


def huggingface(directory: Path) -> str:
    import datasets

    datasets.Dataset(gallery()).save_to_disk(str(directory))
    return f"huggingface:{directory}"


def delta(directory: Path) -> str:
    import deltalake

    uri = str(directory)
    for rows in (range(60), range(60, NUM + 0)):
        deltalake.write_deltalake(uri, gallery(rows), mode="append")
    extra = gallery(range(5)).set_column(0, "doc", pa.array([f"gone {number}" for number in range(5)]))
    deltalake.write_deltalake(uri, extra, mode="append")
    deltalake.DeltaTable(uri).delete("doc LIKE 'gone%'")  # the files are still there
    return f"delta:{uri}"


def lance(directory: Path) -> str:
    import lance as library

    uri = str(directory / "set.lance")
    library.write_dataset(gallery(range(80)), uri)
    extra = gallery(range(5)).set_column(0, "doc", pa.array([f"gone {number}" for number in range(5)]))
    library.write_dataset(extra, uri, mode="append")
    library.write_dataset(gallery(range(80, NUM)), uri, mode="append")
    library.dataset(uri).delete("doc LIKE 'gone%'")
    return f"lance:{uri}"


def lancedb(directory: Path) -> str:
    import lancedb as library

    library.connect(str(directory)).create_table("items", gallery())
    return f"lancedb:{directory}#items"


def iceberg(directory: Path) -> str:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("local", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.items", gallery().schema)
    table.append(gallery(range(90)))
    table.append(gallery(range(90, NUM)))
    return f"iceberg:{table.metadata_location}"


@pytest.mark.parametrize("make", [npy, huggingface, delta, lance, lancedb, iceberg])
def test_a_table_comes_back_whole_and_each_row_once(make: Callable[[Path], str], tmp_path: Path) -> None:
    table = open_table(make(tmp_path))
    parts = table.parts(64)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert max(part.rows for part in parts) <= 64
    there = pickle.loads(pickle.dumps(table))  # noqa: S301 (ours: workers get it so)
    read = [there.read(part) for part in parts]
    assert [one.num_rows for one in read] == [part.rows for part in parts]
    assert there.mark == table.mark
    whole = pa.concat_tables(read, promote_options="permissive").to_pylist()
    vectors = "embedding" if make is npy else "emb"
    found = {row["doc"]: row for row in whole}
    assert sorted(found) == NAMES
    assert len(whole) == NUM
    for name, vector, year in zip(NAMES, VECTORS, range(1900, 1900 + NUM), strict=True):
        np.testing.assert_array_equal(np.asarray(found[name][vectors], np.float32), vector)
        assert found[name]["year"] == year
    head = table.head(10)
    assert head.num_rows == 10
    assert set(head.column_names) == {"doc", vectors, "year"}


@pytest.mark.parametrize("make", [delta, lance])
def test_a_version_is_read_as_it_was_after_the_table_was_written_again(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    place = make(tmp_path)
    table = open_table(place)
    version = table.mark.split()[1]
    before = [table.read(part) for part in table.parts(1000)]
    if make is delta:
        import deltalake

        deltalake.write_deltalake(str(tmp_path), gallery(range(9)), mode="overwrite")
    else:
        import lance as library

        library.write_dataset(gallery(range(9)), str(tmp_path / "set.lance"), mode="overwrite")
    pinned = open_table(f"{place}#{version}")
    assert pa.concat_tables([pinned.read(part) for part in pinned.parts(1000)]) == pa.concat_tables(before)
    assert open_table(place).mark != table.mark


def test_matrices_without_metadata_have_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VECTORS.astype(np.float16))
    table = open_table(f"npy:{tmp_path}")
    (part,) = table.parts(1000)
    assert table.read(part).schema.field("embedding").type == pa.list_(pa.float16(), 6)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.zeros((3, 2), np.int64), "int64 of shape"),
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.asfortranarray(np.zeros((3, 2), np.float32)), "Fortran order"),
    ],
)
def test_a_matrix_of_another_kind_is_refused_by_name(tmp_path: Path, array: np.ndarray, wanted: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(SourceError, match=wanted) as refused:
        open_table(f"npy:{tmp_path}")
    assert "a.npy" in str(refused.value)


def test_matrices_and_metadata_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VECTORS)
    pq.write_table(gallery(range(9)), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"has 250 rows and .*a\.parquet 9; want as many"):
        open_table(f"npy:{tmp_path}")


@pytest.mark.parametrize(
    ("place", "error", "wanted"),
    [
        ("npy:/no/such/place", SourceError, "has no .npy file"),
        ("delta:/no/such/place", SourceError, "no Delta table"),
        ("lance:/no/such/place", SourceError, "no Lance data set"),
        ("lance:/no/such#new", SettingsError, "version 'new' is no number"),
        ("lancedb:/no/such", SettingsError, "names no table"),
        ("iceberg:/no/such/v1.metadata.json", SourceError, "cannot be opened"),
        ("huggingface:/no/such/place", SourceError, "cannot be opened"),
        ("parquet:/no", SettingsError, "Parquet files are adopted"),
        ("pgvector:postgresql://postgres@127.0.0.1:1/db#items", SourceError, "Check the address, PGPASSWORD"),
    ],
)
def test_what_is_not_there_is_said_before_any_work(place: str, error: type[Exception], wanted: str) -> None:
    with pytest.raises(error, match=wanted):
        open_table(place)


def test_parts_cross_no_file_and_cover_every_row() -> None:
    parts = parts_of([("a", 7), ("b", 3)], 4)
    assert [(part.rows, part.token) for part in parts] == [(4, '["a", 0, 4]'), (3, '["a", 4, 7]'), (3, '["b", 0, 3]')]
