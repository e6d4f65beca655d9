"""Every system that a gallery can be imported from, by its own library: the table comes back whole, part by part."""

from __future__ import annotations

import base64
import json
import pickle
import struct
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


def by_name(rows: list[dict[str, object]], key: str) -> dict[object, dict[str, object]]:
    return {row[key]: row for row in rows}


def test_columns_that_came_later_or_were_renamed_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    import deltalake
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.types import DoubleType

    later = gallery(range(100, NUM)).append_column("price", pa.array([1.5] * (NUM - 100)))
    deltalake.write_deltalake(str(tmp_path / "delta"), gallery(range(100)))
    deltalake.write_deltalake(str(tmp_path / "delta"), later, mode="append", schema_mode="merge")
    by_delta = pa.table(deltalake.DeltaTable(str(tmp_path / "delta")).scan())

    catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("shop")
    made = catalog.create_table("shop.items", gallery().schema)
    made.append(gallery(range(100)))
    with made.update_schema() as change:
        change.rename_column("doc", "name").add_column("price", DoubleType())
    made.append(later.rename_columns(["name", "emb", "year", "price"]))
    by_iceberg = made.scan().to_arrow()

    for place, wanted, key in (
        (f"delta:{tmp_path}/delta", by_delta, "doc"),
        (f"iceberg:{made.metadata_location}", by_iceberg, "name"),
    ):
        table = open_table(place)
        read = pa.concat_tables([table.read(part) for part in table.parts(40)])
        assert read.schema.names == wanted.schema.names == table.head(1).schema.names
        assert by_name(read.to_pylist(), key) == by_name(wanted.to_pylist(), key)
        assert read["price"].null_count == 100


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


def deletion_vector(rows: list[int]) -> dict[str, object]:
    """A deletion vector inside the log, as the protocol of Delta lays it out: a roaring array of one container, in Z85."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    padded = data + b"\0" * (-len(data) % 4)
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    python = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    text = base64.b85encode(padded).decode().translate(str.maketrans(python, digits + ".-:+=^!/*?&<>()[]{}@%$#"))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(rows)}


def test_rows_that_deletion_vectors_delete_are_left_out(tmp_path: Path) -> None:
    import deltalake

    deltalake.write_deltalake(str(tmp_path), gallery(range(100)))
    deltalake.write_deltalake(str(tmp_path), gallery(range(100, NUM)), mode="append")
    log = tmp_path / "_delta_log"
    add = next(json.loads(line)["add"] for line in (log / f"{0:020}.json").read_text().splitlines() if '"add"' in line)
    deleted = [0, 7, 8, 99]
    feature = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **feature}},
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add, "deletionVector": deletion_vector(deleted)}},
    ]
    (log / f"{2:020}.json").write_text("\n".join(json.dumps(action) for action in actions))
    table = open_table(f"delta:{tmp_path}")
    parts = table.parts(40)
    read = [table.read(part) for part in parts]
    assert [one.num_rows for one in read] == [part.rows for part in parts]
    names = [row["doc"] for one in read for row in one.to_pylist()]
    assert sorted(names) == [name for number, name in enumerate(NAMES) if number not in deleted]
    by_the_library = pa.table(deltalake.DeltaTable(str(tmp_path)).scan())["doc"].to_pylist()
    assert sorted(names) == sorted(by_the_library)
    vectors = {row["doc"]: row["emb"] for one in read for row in one.to_pylist()}
    for name in names:
        np.testing.assert_array_equal(np.asarray(vectors[name], np.float32), VECTORS[int(name[-4:])])
    before = open_table(f"delta:{tmp_path}#1")
    assert sum(part.rows for part in before.parts(1000)) == NUM


def test_partitions_of_a_delta_table_are_columns(tmp_path: Path) -> None:
    import deltalake

    table = gallery().append_column("lang", pa.array(["de", "fr ä"] * (NUM // 2)))
    deltalake.write_deltalake(str(tmp_path), table, partition_by=["lang"])
    opened = open_table(f"delta:{tmp_path}")
    rows = {row["doc"]: row["lang"] for part in opened.parts(50) for row in opened.read(part).to_pylist()}
    assert rows == dict(zip(table["doc"].to_pylist(), table["lang"].to_pylist(), strict=True))
