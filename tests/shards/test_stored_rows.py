"""Picking rows of a stored shard for pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fct_ray.errors import FormatError
from fct_ray.kinds import OnBadRow, Provenance
from fct_ray.plan.portions import Piece, Portion
from fct_ray.shards.inspected_objects import Inspected, inspect_portion
from fct_ray.shards.stored_rows import ShardSelection, ids_in_shard, select_rows
from fct_ray.storage import objects, shards
from fct_ray.values import AdoptedLayout, ObjectRef, ShardRecord


@pytest.fixture
def shard(tmp_path: Path) -> ObjectRef:
    rng = np.random.default_rng(0)
    table = shards.build_table(
        np.arange(10, 60, dtype=np.int64),
        rng.normal(size=(50, 4)).astype(np.float32),
        rng.normal(size=(50, 3)).astype(np.float32),
        {"label": np.arange(50, dtype=np.int32), "title": [f"item {number}" for number in range(50)]},
    )
    uri = (tmp_path / "shard.parquet").as_uri()
    size, sha256 = objects.write_bytes(uri, shards.encode_table(table))
    return ObjectRef(path=uri, bytes=size, sha256=sha256)


def _selection(
    shard: ObjectRef, side_dimension: int | None, wanted: list[int] | None = None, count: int = 0
) -> ShardSelection:
    return ShardSelection(
        store_uri="/a/store",
        embeddings=shard,
        dimension=4,
        side_dimension=side_dimension,
        wanted_ids=None if wanted is None else np.asarray(wanted, dtype=np.int64),
        count=count,
        seed=0,
    )


def test_wanted_ids_come_with_their_own_vectors_and_label(shard: ObjectRef) -> None:
    table, usage = select_rows(_selection(shard, 3, wanted=[12, 59, 1000]))
    assert table.column_names == ["id", "old", "side", "label"]
    assert table["id"].to_pylist() == [12, 59]
    assert table["label"].to_pylist() == [2, 49]
    stored = shards.parse_shard(objects.read_bytes(shard.path), shard.path, dimension=4, side_dimension=3)
    np.testing.assert_array_equal(np.array(table["old"].to_pylist(), np.float32), stored.embeddings_ND[[2, 49]])
    assert usage.rows == 2


def test_side_information_that_is_not_wanted_is_left_out(shard: ObjectRef) -> None:
    table, _ = select_rows(_selection(shard, None, count=20))
    assert "side" not in table.column_names
    assert len(table) == 20


def _inspected(uri: str, on_bad_row: OnBadRow) -> list[Inspected]:
    return inspect_portion(Portion(pieces=(Piece(uri=uri),)), AdoptedLayout(), on_bad_row)


def _replaced(shard: ObjectRef) -> None:
    """Another version of the same items lies where the shard was: a readable file of the same size."""
    columns = shards.parse_shard(objects.read_bytes(shard.path), shard.path, dimension=4, side_dimension=3)
    other = shards.encode_table(shards.with_embeddings(columns.table, -columns.embeddings_ND))
    assert len(other) == shard.bytes
    objects.write_bytes(shard.path, other)


def test_rows_of_an_object_that_was_replaced_after_it_was_published_are_refused_by_name(shard: ObjectRef) -> None:
    _replaced(shard)
    with pytest.raises(FormatError, match=r"shard\.parquet: sha256 is .* the manifest says .* damaged or replaced"):
        select_rows(_selection(shard, 3, count=20))


def test_ids_of_an_object_of_another_size_than_was_published_are_refused_by_name(shard: ObjectRef) -> None:
    record = ShardRecord(
        shard=0, embeddings=shard, index=None, rows=50, id_min=10, id_max=59, provenance=Provenance.EMBEDDED
    )
    ids_N = np.array([9, 12, 59])
    assert ids_in_shard((record, shard.path, ids_N)).tolist() == [12, 59]
    table = shards.parse_shard(objects.read_bytes(shard.path), shard.path, dimension=4, side_dimension=3).table
    objects.write_bytes(shard.path, shards.encode_table(table.slice(5)))
    with pytest.raises(FormatError, match=r"shard\.parquet: has .* bytes, the manifest says .* damaged or replaced"):
        ids_in_shard((record, shard.path, ids_N))


def test_a_file_without_rows_is_told_apart_from_one_whose_rows_are_all_bad(shard: ObjectRef) -> None:
    table = shards.parse_shard(objects.read_bytes(shard.path), shard.path, dimension=4, side_dimension=3).table
    objects.write_bytes(shard.path, shards.encode_table(table.slice(0, 0)))
    for on_bad_row in OnBadRow:
        assert _inspected(shard.path, on_bad_row) == []
    no_ids = table.set_column(0, "id", pa.nulls(50, pa.int64()))
    objects.write_bytes(shard.path, shards.encode_table(no_ids))
    with pytest.raises(FormatError, match=r"no usable rows among 50; .* row 0: the id is null"):
        _inspected(shard.path, OnBadRow.QUARANTINE)


def test_inspecting_names_ids_of_vectors_that_are_not_normalized_and_pardons_zero_vectors(tmp_path: Path) -> None:
    uri = (tmp_path / "a.parquet").as_uri()
    vectors = np.eye(4, dtype=np.float32)
    for scale, wanted in ((1.0, ()), (0.0, ()), (1.0004, ()), (1.01, (12,)), (0.5, (12,))):
        vectors[2] = scale * np.eye(4)[2]
        table = shards.build_table(np.arange(10, 14, dtype=np.int64), vectors, None, {})
        objects.write_bytes(uri, shards.encode_table(table))
        (inspected,) = _inspected(uri, OnBadRow.REFUSE)
        assert inspected.ids_not_unit == wanted
