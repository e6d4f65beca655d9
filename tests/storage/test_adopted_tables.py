"""What tables of other tools become: names, ids by position, vectors that are cut and scaled, parts of objects."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import DataError, FormatError
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.storage import gallery_reader, objects, parquet_parts
from fct_ray.storage.adopted_tables import canonical_table, is_plain
from fct_ray.storage.gallery_reader import Reading, object_ids, read_rows
from fct_ray.storage.object_schema import check_object
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout, ObjectRef

VECTORS_ND = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
LISTS = pa.array(VECTORS_ND.tolist(), pa.list_(pa.float32()))
STORE = Store("/a/store")


def _read(uri: str, reading: Reading, ref: ObjectRef | None = None, first_id: int = 0, **options: Any) -> Any:
    _, whole = gallery_reader.fetched(uri, None, None)
    on_bad_row = options.pop("on_bad_row", OnBadRow.REFUSE)
    wanted = {"dimension": None, "side_dimension": None, **options}
    return read_rows(STORE, ref or whole, reading, first_id, on_bad_row, **wanted)


def _written(path: Path, columns: dict[str, Any], **options: Any) -> str:
    pq.write_table(pa.table(columns), path, **options)
    return path.as_uri()


def test_columns_are_named_by_the_format_and_carried_ones_make_room(tmp_path: Path) -> None:
    uri = _written(
        tmp_path / "a.parquet",
        {
            "id": range(10),
            "doc": [f"d{n}" for n in range(10)],
            "emb": LISTS,
            "key": ["k"] * 10,
            "y": [1] * 10,
            "label": ["l"] * 10,
        },
    )
    reading = Reading(layout=AdoptedLayout(id="doc", embedding="emb", label="y"), keys=KeyType.STRING)
    columns = _read(uri, reading, first_id=70).columns
    assert columns.table.column_names == ["id", "id_", "key", "embedding", "key_", "label", "label_"]
    assert columns.table["key"].to_pylist() == [f"d{n}" for n in range(10)]
    assert columns.table["label"].to_pylist() == [1] * 10
    assert columns.ids_N.tolist() == list(range(70, 80))
    np.testing.assert_array_equal(columns.embeddings_ND, VECTORS_ND)


def test_rows_without_ids_are_numbered_and_bad_ones_keep_their_number(tmp_path: Path) -> None:
    vectors = VECTORS_ND.tolist()
    vectors[3] = [1.0, float("nan"), 0.0, 0.0]
    uri = _written(tmp_path / "a.parquet", {"embedding": pa.array(vectors, pa.list_(pa.float64()))})
    reading = Reading(layout=AdoptedLayout(id="row"))
    with pytest.raises(DataError, match="row 3: 'embedding' holds nan"):
        _read(uri, reading)
    seen = _read(uri, reading, first_id=100, on_bad_row=OnBadRow.QUARANTINE)
    assert seen.columns.ids_N.tolist() == [100, 101, 102, 104, 105, 106, 107, 108, 109]
    assert [(bad.row, bad.id) for bad in seen.bad] == [(3, 103)]


def test_a_null_key_is_a_bad_row(tmp_path: Path) -> None:
    uri = _written(tmp_path / "a.parquet", {"id": ["a", None, *"bcdefghi"], "embedding": LISTS})
    reading = Reading(keys=KeyType.STRING)
    with pytest.raises(DataError, match="row 1: the key is null"):
        _read(uri, reading)
    seen = _read(uri, reading, on_bad_row=OnBadRow.QUARANTINE)
    assert [(bad.row, bad.reason) for bad in seen.bad] == [(1, "the key is null")]
    assert seen.columns.table["key"].to_pylist() == ["a", *"bcdefghi"]


def test_vectors_are_cut_and_scaled_and_zero_vectors_stay(tmp_path: Path) -> None:
    vectors = VECTORS_ND.copy()
    vectors[2] = 0
    uri = _written(tmp_path / "a.parquet", {"id": range(10), "embedding": pa.array(vectors.tolist())})
    layout = AdoptedLayout(truncate=3, normalize=True)
    seen = _read(uri, Reading(layout=layout), dimension=3).columns.embeddings_ND
    lengths = np.linalg.norm(vectors[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(seen, vectors[:, :3] / np.where(lengths > 0, lengths, 1), rtol=1e-6)
    assert not seen[2].any()
    with pytest.raises(FormatError, match="dimension 4; wanted at least 5 of --truncate 5"):
        _read(uri, Reading(layout=AdoptedLayout(truncate=5)))


def test_int8_needs_a_scale_unless_only_directions_count(tmp_path: Path) -> None:
    rounded = np.array([[100, -50], [3, 4]], np.int8)
    field = pa.field("embedding", pa.list_(pa.int8()))
    for metadata, layout, wanted in (
        ({"scale": "0.5"}, AdoptedLayout(), [[50, -25], [1.5, 2]]),
        (None, AdoptedLayout(normalize=True), [[0.894427, -0.447214], [0.6, 0.8]]),
    ):
        schema = pa.schema([pa.field("id", pa.int64()), field.with_metadata(metadata) if metadata else field])
        table = pa.Table.from_arrays([pa.array([1, 2]), pa.array(rounded.tolist(), pa.list_(pa.int8()))], schema=schema)
        pq.write_table(table, tmp_path / "a.parquet")
        uri = (tmp_path / "a.parquet").as_uri()
        np.testing.assert_allclose(_read(uri, Reading(layout=layout)).columns.embeddings_ND, wanted, rtol=1e-5)
    with pytest.raises(FormatError, match=r"int8 with scale .*--metric cosine"):
        _read(uri, Reading())


def test_ids_of_another_kind_than_those_of_the_gallery_are_refused(tmp_path: Path) -> None:
    uri = _written(tmp_path / "a.parquet", {"id": range(10), "embedding": LISTS})
    with pytest.raises(FormatError, match="'id' holds whole numbers; wanted keys of type string, as in the others"):
        _read(uri, Reading(keys=KeyType.STRING))


def test_what_earlier_releases_read_needs_no_layout(tmp_path: Path) -> None:
    ids, lists = pa.array(range(10)), LISTS
    assert is_plain(pa.table({"id": ids, "embedding": lists}).schema)
    assert not is_plain(pa.table({"id": ids.cast(pa.int32()), "embedding": lists}).schema)
    assert not is_plain(pa.table({"id": ids, "embedding": lists.cast(pa.list_(pa.int8()), safe=False)}).schema)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS_ND)
    assert not is_plain(pa.table({"id": ids, "embedding": tensors}).schema)


def test_a_table_in_the_format_stays_as_it_is(tmp_path: Path) -> None:
    table = pa.table({"title": ["t"] * 10, "id": range(10), "embedding": LISTS, "label": [1] * 10})
    assert canonical_table(table, AdoptedLayout(), None, 0, "uri").equals(table, check_metadata=True)


@pytest.fixture
def grouped(tmp_path: Path) -> str:
    """2,000 rows in four row groups, with carried text beside the vectors."""
    vectors = np.random.default_rng(1).normal(size=(2000, 32)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 32)
    text = [f"text of {n}" * 5 for n in range(2000)]
    return _written(tmp_path / "g.parquet", {"id": range(2000), "embedding": lists, "text": text}, row_group_size=500)


def test_a_part_is_read_with_the_footer_and_its_own_bytes_alone(grouped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = parquet_parts.row_groups(grouped)
    assert [group.rows for group in groups] == [(0, 500), (500, 1000), (1000, 1500), (1500, 2000)]
    span = (groups[1].byte_range[0], groups[2].byte_range[1])
    content = objects.read_bytes(grouped)
    ref = ObjectRef(
        path=grouped,
        bytes=span[1] - span[0],
        sha256=hashlib.sha256(content[slice(*span)]).hexdigest(),
        rows=(500, 1500),
        byte_range=span,
    )
    read: list[tuple[int, int]] = []
    whole = objects.read_range

    def counted(uri: str, start: int, stop: int) -> bytes:
        read.append((start, stop))
        return whole(uri, start, stop)

    monkeypatch.setattr(objects, "read_range", counted)
    seen = _read(grouped, Reading(layout=AdoptedLayout(id="row")), ref, first_id=500)
    assert seen.columns.ids_N.tolist() == list(range(500, 1500))
    assert seen.columns.table["text"][0].as_py() == "text of 500" * 5
    assert read[0] == span
    assert all(start >= len(content) - 65536 for start, _ in read[1:])  # where pyarrow looks for the footer
    assert object_ids(grouped, ref.rows, ref.byte_range, AdoptedLayout()).tolist() == list(range(500, 1500))


def test_a_part_of_an_object_that_was_replaced_is_refused(grouped: str, tmp_path: Path) -> None:
    groups = parquet_parts.row_groups(grouped)
    _, ref = gallery_reader.fetched(grouped, groups[1].rows, groups[1].byte_range)
    table = pq.read_table(tmp_path / "g.parquet")
    pq.write_table(table, tmp_path / "g.parquet", row_group_size=400)
    with pytest.raises(FormatError, match=r"sha256 is .* damaged or replaced"):
        _read(grouped, Reading(), ref)
    with pytest.raises(FormatError, match="no row groups with exactly the rows 500 to 1,000"):
        object_ids(grouped, ref.rows, ref.byte_range, AdoptedLayout())


def test_slices_of_a_row_group_are_its_rows_in_order(grouped: str) -> None:
    slices = list(parquet_parts.slices(grouped, (500, 1000), 180))
    assert [len(part) for part in slices] == [180, 180, 140]
    assert pa.concat_tables(slices)["id"].to_pylist() == list(range(500, 1000))


@pytest.mark.parametrize(
    ("columns", "layout", "said"),
    [
        (["doc_id", "emb"], AdoptedLayout(), "Add --columns.id doc_id --columns.embedding emb$"),
        (["pk", "text", "emb"], AdoptedLayout(), "Add --columns.id pk --columns.embedding emb$"),
        (["a", "b", "emb"], AdoptedLayout(), "Add --columns.embedding emb --columns.id with one of a, b$"),
        (["same", "emb"], AdoptedLayout(), "a column of ids, or --columns.id row to number the rows$"),
        (["id", "emb", "emb2"], AdoptedLayout(), "Add --columns.embedding with one of emb, emb2$"),
        (["id", "embedding", "emb2"], AdoptedLayout(side_info="s"), "no column 's'.*Add --columns.side-info emb2$"),
    ],
)
def test_a_missing_column_is_answered_with_the_flag_that_names_it(
    columns: list[str], layout: AdoptedLayout, said: str, tmp_path: Path
) -> None:
    kinds = {"same": pa.array(["x"] * 10), "emb": LISTS, "emb2": LISTS, "embedding": LISTS}
    table = {name: kinds.get(name, pa.array([f"{name}{n}" for n in range(10)])) for name in columns}
    with pytest.raises(FormatError, match=said):
        check_object(_written(tmp_path / "a.parquet", table), layout)
