"""A listing says which items a run reads: places are looked up once, then items are read by object, row and version."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from fct_ray.errors import SourceError
from fct_ray.sources.files import list_files
from fct_ray.sources.listing import ListedSource, Listing, listing_of, spans_from_bytes, spans_to_bytes, whole_objects
from fct_ray.sources.registry import open_listing, open_source
from tests.sources.test_folder import plain, png
from tests.sources.test_parquet_items import write, write_texts


def listing(num_rows: dict[str, int], marks: dict[str, str] | None = None) -> Listing:
    paths = sorted(num_rows)
    spans = whole_objects(
        paths, [1] * len(paths), [(marks or {}).get(path, "m") for path in paths], [num_rows[path] for path in paths]
    )
    return Listing(source=ListedSource(spec="x", label_names=("é", "b")), spans=spans)


def spans(chosen: Listing) -> list[tuple[str, int, int]]:
    columns = (chosen.spans[name].to_pylist() for name in ("path", "first_row", "num_rows"))
    return list(zip(*columns, strict=True))


def test_chosen_items_are_spans_as_long_as_they_can_be_in_the_order_asked_for() -> None:
    whole = listing({"a": 3, "b": 4})
    assert whole.num_items == 7
    assert spans(whole.take(np.arange(7))) == [("a", 0, 3), ("b", 0, 4)]
    chosen = whole.take(np.array([6, 1, 2, 3, 5]))
    assert spans(chosen) == [("b", 3, 1), ("a", 1, 2), ("b", 0, 1), ("b", 2, 1)]
    assert spans(chosen.take(np.array([2, 3, 4]))) == [("a", 2, 1), ("b", 0, 1), ("b", 2, 1)]
    assert spans(whole.take(np.array([], dtype=np.int64))) == []
    assert whole.take(np.array([], dtype=np.int64)).num_items == 0


def test_the_fingerprint_changes_with_items_marks_and_label_names_and_not_with_how_the_table_is_chunked() -> None:
    whole = listing({"a": 3, "b": 4})
    prints = {
        whole.fingerprint,
        listing({"a": 3, "b": 5}).fingerprint,
        listing({"a": 3, "ab": 4}).fingerprint,
        listing({"a": 3, "b": 4}, {"b": "n"}).fingerprint,
        whole.take(np.arange(6)).fingerprint,
    }
    assert len(prints) == 5
    parts = pa.concat_tables([whole.spans.slice(0, 1), whole.spans.slice(1)])
    assert Listing(source=whole.source, spans=parts).fingerprint == whole.fingerprint


def test_what_is_gone_and_what_changed_is_named_and_new_objects_are_neither() -> None:
    before = listing({"a": 1, "b": 2, "c": 1})
    now = listing({"0": 9, "b": 2, "c": 1}, {"c": "n"})
    assert (before.missing_from(now), before.changed_in(now)) == (["a"], ["c"])
    renewed = before.with_marks_of(now)
    assert renewed.spans["mark"].to_pylist() == ["m", "m", "n"]
    assert spans(renewed) == spans(before)


def test_a_listing_comes_back_from_its_table_and_from_a_task() -> None:
    whole = listing({"a": 3, "b": 4})
    assert listing_of(whole.to_table()).fingerprint == whole.fingerprint
    some = whole.take(np.array([5, 3, 1]))
    assert spans_from_bytes(whole.source, spans_to_bytes(some)).fingerprint == some.fingerprint


def test_a_process_sees_what_was_uploaded_since_it_opened_the_source_when_it_opens_it_again(tmp_path: Path) -> None:
    write_texts(str(tmp_path))
    (tmp_path / "b.png").write_bytes(png(plain((1, 2, 3))))
    photos, texts = open_source(f"images:{tmp_path}"), open_source(f"parquet:{tmp_path}?text=text")
    (tmp_path / "a.png").write_bytes(png(plain((9, 9, 9))))
    write(f"{tmp_path}/0.parquet", {"id": [1], "text": ["one"]})
    assert (photos.num_items, open_source(f"images:{tmp_path}").num_items) == (1, 2)
    assert (texts.num_items, open_source(f"parquet:{tmp_path}?text=text").num_items) == (5, 6)
    assert photos.read(np.array([0])).columns["image"][0, 0, 0].tolist() == [1, 2, 3]
    assert texts.read(np.array([0])).columns["text"] == ["ten"]


def test_a_process_sees_new_objects_on_s3_when_it_opens_the_source_again(s3_uri: str) -> None:
    write_texts(s3_uri)
    assert open_source(f"parquet:{s3_uri}?text=text").num_items == 5
    write(f"{s3_uri}/0.parquet", {"id": [1], "text": ["one"]})
    assert open_source(f"parquet:{s3_uri}?text=text").num_items == 6


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty directory, or an empty prefix on a real S3 server."""
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("s3_uri"))


def put(uri: str, data: bytes) -> None:
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.pipe_file(path, data)


def test_an_object_that_was_overwritten_since_it_was_listed_is_refused_by_name_and_the_others_are_read(
    place: str,
) -> None:
    put(f"{place}/a.png", png(plain((1, 2, 3))))
    put(f"{place}/b.png", png(plain((4, 5, 6))))
    write_texts(place)
    photos, texts = open_source(f"images:{place}"), open_source(f"parquet:{place}?text=text&label=kind")
    put(f"{place}/b.png", png(plain((7, 8, 9))))
    write(f"{place}/2.parquet", {"id": [5, 6], "text": ["FIVE", "SIX"], "kind": ["c", "a"]})
    assert photos.read(np.array([0])).columns["image"][0, 0, 0].tolist() == [1, 2, 3]
    assert texts.read(np.arange(3)).columns["text"] == ["ten", "eleven", "twelve"]
    with pytest.raises(SourceError, match=r"/b\.png was changed after the items were listed: seen version .*, wanted "):
        photos.read(np.arange(2))
    with pytest.raises(SourceError, match=r"/2\.parquet was changed after the items were listed"):
        texts.read(np.arange(5))
    with pytest.raises(SourceError, match=r"/2\.parquet was changed after the items were listed"):
        _ = open_listing(texts.listing).ids_N


def test_an_object_that_is_overwritten_while_it_is_open_is_refused(place: str) -> None:
    put(f"{place}/a.png", png(plain((1, 2, 3))))
    where, (file,) = list_files(place, (".png",), may_be_glob=False)

    def overwrite_and_read() -> None:
        with where.open(file) as opened:
            put(f"{place}/a.png", png(plain((7, 8, 9), (5, 5))))
            opened.read()

    with pytest.raises(SourceError, match=r"/a\.png was changed"):
        overwrite_and_read()


def test_an_object_that_was_deleted_since_it_was_listed_is_refused_by_name(place: str) -> None:
    put(f"{place}/a.png", png(plain((1, 2, 3))))
    write_texts(place)
    photos, texts = open_source(f"images:{place}"), open_source(f"parquet:{place}?text=text")
    filesystem, root = fsspec.core.url_to_fs(place)
    filesystem.rm([f"{root}/a.png", f"{root}/1.parquet"])
    with pytest.raises(SourceError, match=r"/a\.png does not exist; it was there when the items were listed"):
        photos.read(np.arange(1))
    with pytest.raises(SourceError, match=r"/1\.parquet does not exist; it was there when the items were listed"):
        texts.read(np.arange(5))


def test_a_parquet_object_that_changes_between_two_of_its_row_groups_is_never_half_of_each(place: str) -> None:
    write_texts(place)
    source = open_source(f"parquet:{place}?text=text")
    source.read(np.array([0]))  # its footer and first row group are known now
    write(f"{place}/1.parquet", {"id": [10, 11, 12], "text": ["TEN", "ELEVEN", "TWELVE"], "kind": ["b", "a", "b"]})
    with pytest.raises(SourceError, match=r"/1\.parquet was changed"):
        source.read(np.array([2]))


def test_what_spark_leaves_beside_its_parquet_files_is_no_item_but_a_photo_may_be_named_so(tmp_path: Path) -> None:
    (tmp_path / "_temporary").mkdir()
    write(f"{tmp_path}/_temporary/0.parquet", {"id": [1], "text": ["one"]})
    write(f"{tmp_path}/1.parquet", {"id": [1], "text": ["one"]})
    (tmp_path / "_DSC0001.png").write_bytes(png(plain((1, 2, 3))))
    assert open_source(f"parquet:{tmp_path}?text=text").ids_N.tolist() == [1]
    assert open_source(f"images:{tmp_path}").num_items == 1


def test_a_listing_gives_ids_and_labels_again_without_listing(tmp_path: Path) -> None:
    for name in ("cats/1.png", "dogs/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(plain((1, 2, 3))))
    write_texts(str(tmp_path))
    for spec in (
        f"images:{tmp_path}",
        f"parquet:{tmp_path}?text=text&label=kind",
        f"parquet:{tmp_path}?text=text&limit=4",
    ):
        source = open_source(spec)
        again = open_listing(listing_of(source.listing.to_table()))
        assert again.ids_N.tolist() == source.ids_N.tolist()
        assert (again.labels_N is None) == (source.labels_N is None)
        if source.labels_N is not None and again.labels_N is not None:
            assert again.labels_N.tolist() == source.labels_N.tolist()


def test_paths_of_a_listing_hold_in_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(plain((1, 2, 3))))
    write(f"{tmp_path}/photos/1.parquet", {"id": [1], "text": ["one"]})
    monkeypatch.chdir(tmp_path)
    photos, texts = open_source("images:photos"), open_source("parquet:photos/*.parquet?text=text")
    os.chdir(tmp_path / "elsewhere")
    assert photos.read(np.arange(1)).carried["uri"] == ["photos/a.png"]
    assert texts.read(np.arange(1)).columns["text"] == ["one"]
