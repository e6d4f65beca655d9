"""Galleries with other names of columns, other ids, one large file or hundreds of tiny ones: through a whole life."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError, SettingsError
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.storage.gallery_reader import Reading, read_record
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout, Manifest
from fct_ray.workflows.adopt import AdoptSettings, ColumnNames, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.commit import Committed
from fct_ray.workflows.delete import DeleteSettings, delete
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.fashion_vectors import Vectors
from tests.galleries import read_version, write_ids
from tests.workflows.living import START, Living

NAMES = ColumnNames(id="photo", embedding="vec", side_info="extra", label="y")


def _foreign(path: Path, vectors: Vectors, rows: np.ndarray, group_rows: int) -> Path:
    """Some rows as a tool would write them that knows nothing of this package; `id` is a column of its own there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": [f"not the id of {row}" for row in rows],
            "photo": pa.array(vectors.ids_N[rows]).cast(pa.uint64()),
            "vec": pa.array(vectors.old_ND[rows].astype(np.float64).tolist(), pa.large_list(pa.float64())),
            "extra": pa.array(vectors.side_NS[rows].tolist(), pa.list_(pa.float32())),
            "y": vectors.labels_N[rows].astype(np.int16),
        }
    )
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def _adopt(store: Path, gallery: Path, **settings: object) -> Committed:
    return run_adopt(
        plan_adopt(AdoptSettings(store=str(store), embeddings=str(gallery), encoder="old-api", **settings))  # type: ignore[arg-type]
    )


def _rows(store: Store, manifest: Manifest) -> pa.Table:
    """All rows of a version through the door that all verbs use, ascending by id."""
    tables = [
        read_record(
            store, record, Reading.of(manifest), OnBadRow.REFUSE, dimension=None, side_dimension=None
        ).columns.table
        for record in manifest.shards
    ]
    return pa.concat_tables(tables, promote_options="permissive").sort_by("id").combine_chunks()


def test_one_large_file_with_names_of_its_own_lives_and_upgrades(adopted: Living, tmp_path: Path) -> None:
    vectors, store = adopted.vectors, Store(str(tmp_path / "store"))
    gallery = _foreign(tmp_path / "all.parquet", vectors, np.arange(START), 500)
    done = _adopt(Path(store.uri), gallery, columns=NAMES, shard_bytes=200_000)
    manifest = done.published
    assert (manifest.format_version, manifest.keys, manifest.num_rows) == (3, None, START)
    assert manifest.adopted == AdoptedLayout(id="photo", embedding="vec", side_info="extra", label="y")
    assert all(record.embeddings.rows is not None for record in manifest.shards)
    assert len(manifest.shards) > 3
    assert verify_store(VerifySettings(store=store.uri)).problems == ()
    _, found = open_searcher(store.uri, "old-api").search(vectors.old_ND[:50], 1)
    np.testing.assert_array_equal(found[:, 0], vectors.ids_N[:50])

    new = _foreign(tmp_path / "new.parquet", vectors, np.arange(START, START + 50), 50)
    append(AppendSettings(store=store.uri, encoder="old-api", embeddings=str(new)), adopted.size)
    settings = dataclasses.replace(adopted.settings(), store=store.uri)
    in_pairs = np.isin(vectors.ids_N[:START], pq.read_table(str(settings.pairs))["id"].to_numpy())
    gone_rows = np.flatnonzero(~in_pairs)[100:110]
    gone = write_ids(tmp_path / "gone.parquet", vectors.ids_N[gone_rows])
    edited = delete(DeleteSettings(store=store.uri, ids=gone)).published
    assert edited.adopted == manifest.adopted
    left = np.setdiff1d(np.arange(START + 50), gone_rows)

    outcome = run_upgrade(plan_upgrade(settings, None, None), adopted.size)
    assert outcome.published is not None
    assert (outcome.published.format_version, outcome.published.adopted) == (1, None)
    assert verify_store(VerifySettings(store=store.uri)).problems == ()
    table = read_version(store, outcome.published)
    order = left[np.argsort(vectors.ids_N[left])]
    np.testing.assert_array_equal(table["id"].to_numpy(), vectors.ids_N[order])
    assert table["label"].to_pylist() == vectors.labels_N[order].tolist()
    assert table["id_"].to_pylist() == [f"not the id of {row}" for row in order]


def test_a_row_group_that_is_too_large_is_copied_in_slices_and_a_file_of_keys_keeps_them(
    adopted: Living, tmp_path: Path
) -> None:
    vectors, store = adopted.vectors, Store(str(tmp_path / "store"))
    gallery = _foreign(tmp_path / "all.parquet", vectors, np.arange(2000), 2000)
    by_key = dataclasses.replace(NAMES, id="id")
    done = _adopt(Path(store.uri), gallery, columns=by_key, shard_bytes=150_000, on_bad_row=OnBadRow.QUARANTINE)
    manifest = done.published
    assert (manifest.keys, manifest.num_rows, manifest.format_version) == (KeyType.STRING, 2000, 3)
    assert len(manifest.shards) > 2
    assert any("copied into the store in slices (row groups: 1, shards:" in note for note in done.notes)
    table = _rows(store, manifest)
    assert table["id"].to_pylist() == list(range(2000))
    assert table["key"].to_pylist() == [f"not the id of {row}" for row in range(2000)]
    assert verify_store(VerifySettings(store=store.uri)).problems == ()


def test_hundreds_of_tiny_files_become_one_shard_and_drifting_columns_are_put_together(
    adopted: Living, tmp_path: Path
) -> None:
    vectors, store, gallery = adopted.vectors, Store(str(tmp_path / "store")), tmp_path / "gallery"
    gallery.mkdir()
    for row in range(300):
        carried = {"price": pa.array([row], pa.int32() if row % 2 else pa.int64())} | (
            {"note": [f"n{row}"]} if row % 3 == 0 else {}
        )
        vector = [None] if row == 7 else pa.array([vectors.old_ND[row].tolist()], pa.list_(pa.float32()))
        table = pa.table({"uuid": [f"k{row:03d}"], "embedding": vector, **carried})
        if row == 7:
            table = table.set_column(1, "embedding", pa.array([None], pa.list_(pa.float32())))
        pq.write_table(table, gallery / f"{row:03d}.parquet")
    names = ColumnNames(id="uuid")
    done = _adopt(Path(store.uri), gallery, columns=names, on_bad_row=OnBadRow.QUARANTINE)
    (record,) = done.published.shards
    assert (record.rows, record.quarantined, done.num_bad_rows) == (299, 1, 1)
    assert record.embeddings.path == "versions/000001/shards/00000.parquet"
    assert any("300 small objects are copied into the store together (shards: 1)" in note for note in done.notes)
    table = pq.read_table(store.uri_of(record.embeddings.path))
    rows = [row for row in range(300) if row != 7]
    assert table["id"].to_pylist() == rows
    assert table["key"].to_pylist() == [f"k{row:03d}" for row in rows]
    assert table["price"].to_pylist() == rows
    assert table["note"].to_pylist() == [f"n{row}" if row % 3 == 0 else None for row in rows]
    again = _adopt(Path(store.uri), gallery, columns=names, on_bad_row=OnBadRow.QUARANTINE)
    assert again.done_before


def test_a_missing_column_is_said_before_ray_starts_with_the_flag_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"doc_id": ["a"], "emb": pa.array([[1.0]]), "text": ["t"]}), path)
    settings = AdoptSettings(store=str(tmp_path / "store"), embeddings=str(path), encoder="old-api")
    with pytest.raises(
        FormatError, match=r"no column 'id' and 'embedding'.*Add --columns.id doc_id --columns.embedding emb$"
    ):
        plan_adopt(settings)
    twice = dataclasses.replace(settings, columns=ColumnNames(id="emb", embedding="emb"))
    with pytest.raises(SettingsError, match="names one column twice"):
        plan_adopt(twice)
