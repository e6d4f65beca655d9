"""Files at the door: pairs and queries are checked, results have the promised columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import DataError, FormatError, NotFoundError
from fct_ray.storage import objects, pairs
from fct_ray.storage.shards import build_table

IDS_N = np.array([7, 3, 5], np.int64)
VECTORS_NW = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_pairs_and_queries_come_back_in_the_order_of_the_file(root: str) -> None:
    uri = f"{root}/pairs.parquet"
    pairs.write_table(uri, build_table(IDS_N, VECTORS_NW, None, {}))
    found = pairs.read_pairs(uri)
    assert found.ids.to_pylist() == [7, 3, 5]
    assert np.array_equal(found.embeddings_NW, VECTORS_NW)
    np.testing.assert_array_equal(np.asarray(pairs.read_queries(uri).embeddings), VECTORS_NW)


def test_a_pandas_like_file_with_lists_is_accepted(tmp_path: Path) -> None:
    uri = str(tmp_path / "pairs.parquet")
    pq.write_table(pa.table({"id": IDS_N, "embedding": VECTORS_NW.astype(np.float64).tolist()}), uri)
    assert np.array_equal(pairs.read_pairs(uri).embeddings_NW, VECTORS_NW)


def test_unusable_pairs_are_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "pairs.parquet")
    with pytest.raises(NotFoundError, match=r"pairs\.parquet"):
        pairs.read_pairs(uri)
    pairs.write_table(uri, build_table(np.array([1, 2, 1]), VECTORS_NW, None, {}))
    with pytest.raises(DataError, match="rows 0 and 2 both have id 1"):
        pairs.read_pairs(uri)
    pairs.write_table(uri, build_table(IDS_N[:0], VECTORS_NW[:0], None, {}))
    with pytest.raises(DataError, match="0 rows; wanted pairs"):
        pairs.read_pairs(uri)
    Path(uri).write_bytes(b"id,embedding\n")
    with pytest.raises(FormatError, match=r"pairs\.parquet: not a readable Parquet file"):
        pairs.read_pairs(uri)


def test_ids_are_read_alone(root: str) -> None:
    uri = f"{root}/shard.parquet"
    with pytest.raises(NotFoundError, match=r"shard\.parquet"):
        pairs.read_ids(uri)
    pairs.write_table(uri, build_table(IDS_N, VECTORS_NW, None, {}))
    assert pairs.read_ids(uri).tolist() == [7, 3, 5]
    objects.write_bytes(uri, objects.read_bytes(uri)[:-20])
    with pytest.raises(FormatError, match=r"shard\.parquet: not a readable Parquet file"):
        pairs.read_ids(uri)


def test_search_results_have_the_promised_columns(root: str) -> None:
    uri = f"{root}/out.parquet"
    pairs.write_search_results(uri, query=[1, 1], rank=[1, 2], id=[9, -1], score=[0.5, 0.25])
    table = pairs.read_table(uri)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {"query": "int64", "rank": "int64", "id": "int64", "score": "float"}
    assert table.to_pylist()[1] == {"query": 1, "rank": 2, "id": -1, "score": 0.25}
