"""Picking rows of a stored shard for pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fct_ray.shards.stored_rows import ShardSelection, select_rows
from fct_ray.storage import shards


@pytest.fixture
def shard(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    table = shards.build_table(
        np.arange(10, 60, dtype=np.int64),
        rng.normal(size=(50, 4)).astype(np.float32),
        rng.normal(size=(50, 3)).astype(np.float32),
        {"label": np.arange(50, dtype=np.int32), "title": [f"item {number}" for number in range(50)]},
    )
    path = tmp_path / "shard.parquet"
    path.write_bytes(shards.encode_table(table))
    return str(path)


def _selection(uri: str, side_dimension: int | None, wanted: list[int] | None = None, count: int = 0) -> ShardSelection:
    ids = None if wanted is None else np.asarray(wanted, dtype=np.int64)
    return ShardSelection(uri=uri, dimension=4, side_dimension=side_dimension, wanted_ids=ids, count=count, seed=0)


def test_wanted_ids_come_with_their_own_vectors_and_label(shard: str) -> None:
    table, usage = select_rows(_selection(shard, 3, wanted=[12, 59, 1000]))
    assert table.column_names == ["id", "old", "side", "label"]
    assert table["id"].to_pylist() == [12, 59]
    assert table["label"].to_pylist() == [2, 49]
    stored = shards.parse_shard(Path(shard).read_bytes(), shard, dimension=4, side_dimension=3)
    np.testing.assert_array_equal(np.array(table["old"].to_pylist(), np.float32), stored.embeddings_ND[[2, 49]])
    assert usage.rows == 2


def test_side_information_that_is_not_wanted_is_left_out(shard: str) -> None:
    table, _ = select_rows(_selection(shard, None, count=20))
    assert "side" not in table.column_names
    assert len(table) == 20
