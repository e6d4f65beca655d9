"""What other tools write, and what it is taken as: the tables of docs/how-to/adopt.md, row by row, with real files."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY_TYPES
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.storage.adopted_tables import keys_in
from fct_ray.storage.gallery_reader import fetched, parse_object, table_in
from fct_ray.storage.object_schema import check_object
from fct_ray.storage.shards import ShardColumns
from fct_ray.values import AdoptedLayout
from tests.conftest import ROOT

VECTORS_ND = np.array([[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]], np.float32)
ROWS = VECTORS_ND.tolist()
IDS = pa.array([4, 9])
STRINGS = (pa.string(), pa.large_string(), pa.string_view())
UUIDS = [uuid.UUID(int=number) for number in (7, 8)]


def _taken(path: Path, layout: AdoptedLayout | None = None) -> tuple[ShardColumns, KeyType | None]:
    """What the reading function that `adopt` uses makes of a file, after the look that comes before Ray starts."""
    layout = layout or AdoptedLayout()
    check_object(path.as_uri(), layout)
    data, ref = fetched(path.as_uri(), None, None)
    table = table_in(data, ref.path, None, None)
    keys = keys_in(table.schema, layout, ref.path)
    columns, _ = parse_object(table, ref.path, layout, keys, 0, OnBadRow.REFUSE, dimension=None, side_dimension=None)
    return columns, keys


@pytest.mark.parametrize(
    ("ids", "keys", "wanted"),
    [
        *((pa.array([4, 9], kind), None, [4, 9]) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
        *((pa.array([4, 9], kind), None, [4, 9]) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
        (pa.array([4, 9]).dictionary_encode(), None, [4, 9]),
        *((pa.array(["a", "b"], kind), KeyType.STRING, ["a", "b"]) for kind in STRINGS),
        (pa.array(["a", "b"]).dictionary_encode(), KeyType.STRING, ["a", "b"]),
        (pa.array([one.bytes for one in UUIDS], pa.uuid()), KeyType.UUID, [one.bytes for one in UUIDS]),
        (pa.array([one.bytes for one in UUIDS], pa.binary(16)), KeyType.UUID, [one.bytes for one in UUIDS]),
        (pa.array([b"a", b"bc"]), KeyType.BINARY, [b"a", b"bc"]),
        (pa.array([b"ab", b"bc"], pa.binary(2)), KeyType.BINARY, [b"ab", b"bc"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_ids_that_pyarrow_writes(ids: Any, keys: KeyType | None, wanted: list[Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ids, "embedding": pa.array(ROWS)}), tmp_path / "a.parquet")
    columns, seen = _taken(tmp_path / "a.parquet")
    assert seen is keys
    assert columns.ids_N.tolist() == (wanted if keys is None else [0, 1])
    if keys is not None:
        assert columns.table.schema.field("key").type == KEY_TYPES[keys]
        assert columns.table["key"].to_pylist() == wanted


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pa.array([1, 2**63], pa.uint64()), "beyond int64; wanted int64: cast the ids to strings"),
        (pa.array([1.0, 2.0]), r"'id' is double; wanted ids.*Cast the column to int64"),
        (pa.array([True, False]), "'id' is bool"),
        (pa.array([[1], [2]]), "'id' is list"),
    ],
)
def test_ids_that_call_nothing_are_refused_with_the_next_action(ids: Any, said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ids, "embedding": pa.array(ROWS)}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match=said):
        _taken(tmp_path / "a.parquet")


@pytest.mark.parametrize("numbers", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize(
    "lists", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 3), pa.list_view, pa.large_list_view],
    ids=["list", "large_list", "fixed_size_list", "list_view", "large_list_view"],
)  # fmt: skip
def test_lists_that_pyarrow_writes(lists: Any, numbers: Any, tmp_path: Path) -> None:
    rows = VECTORS_ND.astype(np.float16) if numbers == pa.float16() else VECTORS_ND
    pq.write_table(pa.table({"id": IDS, "embedding": pa.array(list(rows), lists(numbers))}), tmp_path / "a.parquet")
    columns, _ = _taken(tmp_path / "a.parquet")
    np.testing.assert_array_equal(columns.embeddings_ND, VECTORS_ND)  # the numbers are exact in float16, too


def test_a_fixed_shape_tensor_of_one_dimension_is_a_vector_and_others_are_refused(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS_ND)
    pq.write_table(pa.table({"id": IDS, "embedding": tensors}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(_taken(tmp_path / "a.parquet")[0].embeddings_ND, VECTORS_ND)
    square = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2, 3), np.float32))
    pq.write_table(pa.table({"id": IDS, "embedding": square}), tmp_path / "a.parquet")
    with pytest.raises(
        FormatError, match=r"tensors of shape \(2, 3\); wanted one vector a row: reshape them to \(6,\)"
    ):
        _taken(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (
            pa.array(["[0.5, 1]", "[2, 3]"]),
            "is string; wanted lists of float32.*Read the text as JSON once: .*json.loads",
        ),
        (pa.array([b"abcd", b"efgh"]), "is binary.*numpy.frombuffer"),
        (pa.array([b"abcd", b"efgh"], pa.binary(4)), "Binary codes.*numpy.unpackbits"),
        (pa.array([[1, 255], [3, 4]], pa.list_(pa.uint8())), "Binary codes.*numpy.unpackbits"),
        (pa.array([[True], [False]]), "Binary codes.*numpy.unpackbits"),
        (pa.array([[1, 2], [3, 4]]), "list<element: int64>.*Cast the numbers of 'embedding' to float32"),
        (pa.array([1.0, 2.0]), "is double.*--columns.embedding"),
    ],
)
def test_what_is_no_vector_is_refused_with_the_way_to_convert_it(vectors: Any, said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": IDS, "embedding": vectors}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match=said):
        _taken(tmp_path / "a.parquet")


@pytest.mark.parametrize("index", [None, pd.Index(["p", "q"], name="id")], ids=["column", "named index"])
def test_what_pandas_writes(index: pd.Index | None, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["p", "q"], "embedding": list(VECTORS_ND), "price": [1.5, 2.5]})
    frame = frame if index is None else frame.drop(columns="id").set_index(index)
    frame.to_parquet(tmp_path / "a.parquet")
    columns, keys = _taken(tmp_path / "a.parquet")
    assert keys is KeyType.STRING
    assert columns.table["key"].to_pylist() == ["p", "q"]
    assert columns.table["price"].to_pylist() == [1.5, 2.5]
    assert b"pandas" not in (columns.table.schema.metadata or {})  # it speaks of columns that have other names now
    np.testing.assert_array_equal(columns.embeddings_ND, VECTORS_ND)


_READ_WITHOUT_RAY = """
import json, sys
from pathlib import Path
from tests.storage.test_written_by_other_tools import _taken
columns, _ = _taken(Path(sys.argv[1]))
print(json.dumps([columns.embeddings_ND.tolist(), "ray.data" in sys.modules]))
"""


@pytest.mark.parametrize("kind", ["ArrowTensorArray", "ArrowVariableShapedTensorArray"])
def test_what_ray_data_writes_is_read_where_ray_is_imported_and_where_it_is_not(kind: str, tmp_path: Path) -> None:
    from ray.data._internal.tensor_extensions import arrow as ray_tensors

    rows: Any = VECTORS_ND if kind == "ArrowTensorArray" else list(VECTORS_ND)
    tensors = getattr(ray_tensors, kind).from_numpy(rows)
    pq.write_table(pa.table({"id": IDS, "embedding": tensors}), tmp_path / "a.parquet")
    columns, _ = _taken(tmp_path / "a.parquet")
    np.testing.assert_array_equal(columns.embeddings_ND, VECTORS_ND)
    command = [sys.executable, "-c", _READ_WITHOUT_RAY, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.splitlines()[-1]) == [ROWS, False]
