"""The file of real queries: what is read, and what is refused with the row that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import DataError, FormatError, NotFoundError
from fct_ray.storage.query_file import QueryFile, read_query_file
from fct_ray.storage.vector_columns import vector_array

OLD = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
RELEVANT = [[7], [8, 9], [7]]


def _read(tmp_path: Path, **columns: Any) -> QueryFile:
    uri = str(tmp_path / "queries.parquet")
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), uri)
    return read_query_file(uri)


def test_the_least_file_has_vectors_and_relevant_ids(tmp_path: Path) -> None:
    found = _read(tmp_path, old=OLD, relevant=RELEVANT)
    assert found.ids_Q.tolist() == [0, 1, 2]
    assert found.old_QD is not None
    assert found.old_QD.tolist() == OLD
    assert (found.new_QW, found.side_QS, found.groups_Q) == (None, None, None)
    assert found.relevant_offsets_Q1.tolist() == [0, 1, 3, 4]
    assert found.relevant.to_pylist() == [7, 8, 9, 7]
    assert found.grades_R.tolist() == [1, 1, 1, 1]


def test_every_column_comes_back(tmp_path: Path) -> None:
    halves = vector_array(np.ones((3, 4)), "float16")
    found = _read(
        tmp_path,
        query=["a", "b", "c"],
        new=halves,
        side=pa.array(OLD, pa.large_list(pa.float64())),
        relevant=pa.array(RELEVANT, pa.list_(pa.int32())),
        grades=[[3], [2, 1], [1]],
        group=[4, 4, 5],
    )
    assert found.ids_Q.tolist() == ["a", "b", "c"]
    assert found.old_QD is None
    assert found.new_QW is not None
    assert found.new_QW.shape == (3, 4)
    assert found.new_QW.dtype == np.float32
    assert found.side_QS is not None
    assert found.side_QS.tolist() == OLD
    assert found.relevant.type == pa.int64()
    assert found.grades_R.tolist() == [3, 2, 1, 1]
    assert found.groups_Q is not None
    assert found.groups_Q.tolist() == [4, 4, 5]


def test_known_items_may_be_lists_of_fixed_size(tmp_path: Path) -> None:
    relevant = pa.FixedSizeListArray.from_arrays(pa.array([5, 6, 7]), 1)
    assert _read(tmp_path, old=OLD, relevant=relevant).relevant_offsets_Q1.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"old": None}, r"queries\.parquet: columns \['relevant'\]; wanted 'old' or 'new'"),
        ({"relevant": None}, "0 columns named 'relevant'"),
        ({"relevant": [7, 8, 9]}, "'relevant' is int64; wanted a list of ids"),
        ({"relevant": [[1.5], [2.5], [3.5]]}, "'relevant' is list.*wanted a list of ids"),
        ({"old": [[1.0], [1.0, 2.0], [1.0]]}, "row 1: 'old' has 2 values, row 0 has 1"),
        ({"old": [1.0, 2.0, 3.0]}, "'old' is double; wanted a fixed_size_list"),
        ({"query": [1.5, 2.5, 3.5]}, "'query' is double; wanted int64 or strings"),
        ({"group": ["x", "y", "z"]}, "'group' is string; wanted int64"),
        ({"grades": [["x"], ["y", "z"], ["x"]]}, "'grades' is list.*wanted a list of numbers"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        _read(tmp_path, **{"old": OLD, "relevant": RELEVANT, **columns})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"relevant": [[7], None, [8]]}, "row 1: 'relevant' is null"),
        ({"relevant": [[7], [8], []]}, "row 2: 'relevant' is empty"),
        ({"relevant": [[7], [8, None], [9]]}, "row 1: 'relevant' holds a null"),
        ({"old": [[1.0], [float("nan")], [2.0]]}, "row 1: 'old' holds nan"),
        ({"new": [[1.0], None, [2.0]]}, "row 1: 'new' is null"),
        ({"grades": [[1.0], [1.0], [1.0]]}, "row 1: 1 grades for 2 relevant items"),
        ({"query": [4, 5, 4]}, "rows 0 and 2 are both query 4"),
        ({"query": ["a", None, "c"]}, "row 1: 'query' is null"),
        ({"group": [1, 2, None]}, "row 2: 'group' is null"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, **{"old": OLD, "relevant": RELEVANT, **columns})


def test_no_rows_and_no_file_are_refused(tmp_path: Path) -> None:
    floats, ids = pa.list_(pa.float32()), pa.list_(pa.int64())
    with pytest.raises(DataError, match="0 rows; wanted queries"):
        _read(tmp_path, old=pa.array([], floats), relevant=pa.array([], ids))
    with pytest.raises(NotFoundError, match=r"none\.parquet"):
        read_query_file(str(tmp_path / "none.parquet"))
