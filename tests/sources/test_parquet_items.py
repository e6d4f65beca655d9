"""Images and texts in Parquet, on local disk and on a real S3 server."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.errors import SourceError
from fct_ray.sources import parquet_items
from fct_ray.sources.folder import path_id
from fct_ray.sources.item_keys import hashed
from fct_ray.sources.registry import open_listing, open_source


def encoded(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), grey).save(buffer, "PNG")
    return buffer.getvalue()


def write(uri: str, columns: dict[str, Any], rows_per_group: int = 2) -> None:
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    with filesystem.open(path, "wb") as file:
        pq.write_table(pa.table(columns), file, row_group_size=rows_per_group)


def write_texts(uri: str) -> None:
    write(f"{uri}/1.parquet", {"id": [10, 11, 12], "text": ["ten", "eleven", "twelve"], "kind": ["b", "a", "b"]})
    write(f"{uri}/2.parquet", {"id": [5, 6], "text": ["five", "six"], "kind": ["c", "a"]})


def check_texts(spec: str) -> None:
    source = open_source(f"{spec}?text=text&label=kind")
    assert source.ids_N.tolist() == [10, 11, 12, 5, 6]
    assert source.labels_N is not None
    assert source.labels_N.tolist() == [1, 0, 1, 2, 0]
    items = source.read(np.array([4, 0, 2, 3, 0]))
    assert items.ids_N.tolist() == [6, 10, 12, 5, 10]
    assert items.columns == {"text": ["six", "ten", "twelve", "five", "ten"]}
    assert items.carried["label"].tolist() == [0, 1, 1, 2, 1]
    assert items.carried["label_name"] == ["a", "b", "b", "c", "b"]
    assert items.bytes_read > 0
    assert source.read(np.array([4])).bytes_read == 0, "the row group is still there"


def test_texts_of_several_files_and_row_groups_come_in_the_order_asked_for(tmp_path: Path) -> None:
    write_texts(str(tmp_path))
    check_texts(f"parquet:{tmp_path}")
    check_texts(f"parquet:{tmp_path}/*.parquet")


def test_texts_on_s3(s3_uri: str) -> None:
    write_texts(s3_uri)
    check_texts(f"parquet:{s3_uri}/[12].parquet")


@pytest.mark.parametrize("nested", [False, True])
def test_encoded_images_are_decoded_whether_plain_or_as_hugging_face_writes_them(tmp_path: Path, nested: bool) -> None:
    images: list[Any] = [encoded(grey) for grey in (10, 20, 30)]
    if nested:
        images = [{"bytes": image, "path": None} for image in images]
    write(f"{tmp_path}/items.parquet", {"key": [1, 2, 3], "photo": images, "label": [7, 8, 9]})
    items = open_source(f"parquet:{tmp_path}/items.parquet?image=photo&id=key").read(np.array([2, 1]))
    assert items.columns["image"].shape == (2, 2, 3, 3)
    assert items.columns["image"][:, 0, 0, 0].tolist() == [30, 20]
    assert items.carried["label"].tolist() == [9, 8]


def test_a_limit_keeps_the_first_rows(tmp_path: Path) -> None:
    write_texts(str(tmp_path))
    source = open_source(f"parquet:{tmp_path}?text=text&limit=2")
    assert source.ids_N.tolist() == [10, 11]
    assert source.labels_N is None, "a column not called label is no label unless named"


def test_only_as_many_row_groups_are_kept_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(str(tmp_path))
    monkeypatch.setattr(parquet_items, "CACHED_BYTES", 1)
    source = open_source(f"parquet:{tmp_path}?text=text")
    source.read(np.arange(5))
    assert isinstance(source.reader, parquet_items.ParquetItems)
    assert [(file.path, group) for file, group in source.reader.groups] == [("2.parquet", 0)]
    assert source.read(np.arange(5)).columns["text"] == ["ten", "eleven", "twelve", "five", "six"]


@pytest.mark.parametrize(
    ("columns", "query", "message"),
    [
        ({"id": [1], "body": ["a"]}, "text=text", "no column 'text'; it has id, body"),
        ({"text": ["a"]}, "text=text", "no column 'id'"),
        ({"id": [0.5], "text": ["a"]}, "text=text", "id column 'id' is double; wanted integers"),
        ({"id": ["k", "k"], "text": ["a", "b"]}, "text=text", "id k occurs more than once"),
        ({"id": [1, None], "text": ["a", "b"]}, "text=text", "1 ids are null"),
        ({"id": [4, 4], "text": ["a", "b"]}, "text=text", "id 4 occurs more than once"),
        ({"id": [1], "text": [1.5]}, "text=text", "column 'text' is double; wanted string"),
        ({"id": [1], "text": ["a"]}, "image=text", "column 'text' is string; wanted binary"),
        ({"id": [1], "text": ["a"], "label": [0.5]}, "text=text", "label column 'label' is double"),
        (
            {"id": [1], "text": ["a"], "label": pa.array([None], pa.int64())},
            "text=text",
            "1 labels in 'label' are null",
        ),
        ({"id": pa.array([2**63], pa.uint64()), "text": ["a"]}, "text=text", "column id cannot be read"),
    ],
)
def test_columns_that_cannot_be_used_are_refused_on_opening(
    tmp_path: Path, columns: dict[str, Any], query: str, message: str
) -> None:
    write(f"{tmp_path}/items.parquet", columns)
    with pytest.raises(SourceError, match=message):
        open_source(f"parquet:{tmp_path}?{query}")


def test_a_null_or_damaged_value_is_named_by_file_and_id(tmp_path: Path) -> None:
    write(f"{tmp_path}/a.parquet", {"id": [1, 2], "photo": [encoded(1), None]})
    write(f"{tmp_path}/b.parquet", {"id": [3], "photo": [b"no image"]})
    source = open_source(f"parquet:{tmp_path}?image=photo")
    with pytest.raises(SourceError, match=r"a\.parquet id 2 has no photo"):
        source.read(np.arange(2))
    with pytest.raises(SourceError, match=r"b\.parquet id 3 \(8 bytes\) cannot be decoded"):
        source.read(np.array([2]))


def test_a_file_that_is_no_parquet_and_a_place_without_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(SourceError, match=r"broken\.parquet cannot be read"):
        open_source(f"parquet:{tmp_path}?text=text")
    with pytest.raises(SourceError, match="has no file that ends with"):
        open_source(f"parquet:{tmp_path}/none?text=text")


@pytest.mark.parametrize(
    "first",
    [
        pa.array(["x", "y", "z"], pa.large_string()),
        pa.array(["x", "y", "z"]).dictionary_encode(),
        pa.array([bytes([9] * 16), bytes(16), bytes([1] * 16)], pa.binary(16)),
    ],
    ids=["large_string", "dictionary", "uuid"],
)
def test_items_called_by_text_or_uuids_have_these_as_keys_and_hashes_as_ids(first: pa.Array, tmp_path: Path) -> None:
    write(f"{tmp_path}/1.parquet", {"name": first, "text": ["one", "two", "three"]})
    source = open_source(f"parquet:{tmp_path}?text=text&id=name")
    keys = source.user_ids
    assert keys.to_pylist() == first.to_pylist()
    assert source.ids_N.tolist() == hashed(keys).tolist()
    assert (source.ids_N >= 0).all()
    items = source.read(np.array([2, 0]))
    assert items.keys is not None
    assert items.keys.equals(keys.take(pa.array([2, 0])))
    assert items.ids_N.tolist() == source.ids_N[[2, 0]].tolist()
    kept = items.rows(np.array([False, True])).keys
    assert kept is not None
    assert kept.to_pylist() == [keys[0].as_py()]
    assert open_listing(source.listing.take(np.array([1, 0]))).user_ids.equals(keys.take(pa.array([1, 0])))
    assert source.take(np.array([1])).user_ids.equals(keys.slice(1, 1))


def test_files_whose_ids_are_of_different_types_are_refused(tmp_path: Path) -> None:
    write(f"{tmp_path}/1.parquet", {"id": ["x"], "text": ["one"]})
    write(f"{tmp_path}/2.parquet", {"id": [2], "text": ["two"]})
    with pytest.raises(SourceError, match=r"ids in 'id' have several types .int64, string.; write all files with one"):
        open_source(f"parquet:{tmp_path}?text=text")


def test_the_hash_of_a_key_is_that_of_a_path_of_an_image_folder() -> None:
    assert hashed(pa.array(["cats/a.png"])).tolist() == [path_id("cats/a.png")]
