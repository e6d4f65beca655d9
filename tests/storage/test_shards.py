"""A shard's columns survive the way to Parquet and back, and unusable ones are refused by row."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct_ray.errors import DataError, FormatError, SettingsError, StoreError
from fct_ray.storage import shards

IDS_N = np.array([5, -3, 2**62], np.int64)
VECTORS_ND = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
SIDE_NS = np.array([[0.5, -1, 0.25], [0, 1, 2], [-2, 0.125, 0]], np.float32)
TEXTS: Any = pa.list_(pa.field("element", pa.string()))
CARRIED = {
    "label": np.array([1, 0, 1]),
    "uri": ["a", None, "c"],
    "tags": pa.array([["x"], [], ["y", "z"]], TEXTS),
}


def _encode(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def _fixed(values: Any, kind: Any, width: int) -> Any:
    return pa.array(values, pa.list_(kind, width))


def _parse(data: bytes, dimension: int | None = None, side_dimension: int | None = None) -> shards.ShardColumns:
    return shards.parse_shard(data, "s3://b/00000.parquet", dimension=dimension, side_dimension=side_dimension)


def test_a_shard_comes_back_as_it_was_built() -> None:
    table = shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, CARRIED)
    found = _parse(shards.encode_table(table), 2, 3)
    assert found.table.equals(table, check_metadata=True)
    assert found.ids_N.tolist() == IDS_N.tolist()
    assert np.array_equal(found.embeddings_ND, VECTORS_ND)
    assert found.side_info_NS is not None
    assert np.array_equal(found.side_info_NS, SIDE_NS)
    assert found.embeddings_ND.flags.c_contiguous
    assert found.embeddings_ND.dtype == found.side_info_NS.dtype == np.float32


def test_the_columns_are_those_of_the_public_format() -> None:
    table = pq.read_table(
        pa.BufferReader(shards.encode_table(shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, {}, side_dtype="int8")))
    )
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "id": "int64",
        "embedding": "fixed_size_list<element: float>[2]",
        "side_info": "fixed_size_list<element: int8>[3]",
    }
    metadata = table.schema.field("side_info").metadata
    assert metadata is not None
    scale = float(metadata[b"scale"])
    assert scale == pytest.approx(2 / 127)  # the largest absolute value becomes 127
    assert table.column("side_info").to_pylist() == [[32, -64, 16], [0, 64, 127], [-127, 8, 0]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 1e-3), ("int8", 1 / 127)])
def test_side_information_comes_back_within_the_step_of_its_type(dtype: str, tolerance: float) -> None:
    data = shards.encode_table(shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, {}, side_dtype=dtype))
    found = _parse(data, 2, 3)
    assert found.side_info_NS is not None
    assert np.abs(found.side_info_NS - SIDE_NS).max() <= tolerance
    assert shards.side_dtype(found.table) == dtype


def test_all_zero_side_information_survives_int8() -> None:
    table = shards.build_table(IDS_N, VECTORS_ND, np.zeros_like(SIDE_NS), {}, side_dtype="int8")
    side_info_NS = _parse(shards.encode_table(table)).side_info_NS
    assert side_info_NS is not None
    assert not side_info_NS.any()


@given(
    rows=st.integers(0, 70),
    dimension=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
)
@settings(max_examples=25, deadline=None)
def test_any_shard_has_equal_bytes_after_reading_and_writing_it_again(
    rows: int, dimension: int, seed: int, dtype: str
) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(rows, dimension)).astype(np.float32)
    ids_N = generator.permutation(rows).astype(np.int64)
    table = shards.build_table(ids_N, vectors, vectors, {"key": [str(n) for n in ids_N]}, side_dtype=dtype)
    data = shards.encode_table(table)
    assert shards.encode_table(_parse(data).table) == data
    assert np.array_equal(_parse(data).ids_N, ids_N)


def test_replacing_embeddings_leaves_everything_else_untouched() -> None:
    table = shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, CARRIED, side_dtype="int8")
    table = table.select(["uri", "embedding", "id", "side_info", "label"]).replace_schema_metadata({"owner": "me"})
    new_NW = np.arange(15, dtype=np.float32).reshape(3, 5)
    found = shards.with_embeddings(table, new_NW)
    assert found.column_names == table.column_names
    assert found.schema.metadata == {b"owner": b"me"}
    assert found.drop(["embedding"]).equals(table.drop(["embedding"]), check_metadata=True)
    back = _parse(shards.encode_table(found), 5, 3)
    assert np.array_equal(back.embeddings_ND, new_NW)
    assert back.table.schema.metadata == {b"owner": b"me"}
    with pytest.raises(DataError, match="2 embeddings for 3 rows"):
        shards.with_embeddings(table, new_NW[:2])


def test_row_groups_are_bounded_and_vectors_are_stored_plain() -> None:
    rows = shards.ROW_GROUP_ROWS + 1
    table = shards.build_table(np.arange(rows), np.zeros((rows, 2), np.float32), None, {"label": np.zeros(rows)})
    data = shards.encode_table(table)
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [65_536, 1]
    columns = {column.path_in_schema: column for column in map(metadata.row_group(0).column, range(3))}
    assert columns["embedding.list.element"].compression == "UNCOMPRESSED"
    assert not columns["embedding.list.element"].has_dictionary_page
    assert columns["label"].compression == "ZSTD"
    assert len(_parse(data).ids_N) == rows


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("nest", [lambda kind: pa.list_(kind, 2), pa.list_, pa.large_list])
def test_float_lists_of_equal_length_are_accepted_when_adopting(kind: Any, nest: Any) -> None:
    data = _encode(id=IDS_N, embedding=pa.array(VECTORS_ND.astype(kind.to_pandas_dtype()).tolist(), nest(kind)))
    found = _parse(data, 2)
    assert np.array_equal(found.embeddings_ND, VECTORS_ND)
    assert found.side_info_NS is None


GOOD = _fixed(VECTORS_ND.tolist(), pa.float32(), 2)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"key": IDS_N, "embedding": GOOD}, r"0 columns named 'id' among \['key', 'embedding'\]"),
        ({"id": IDS_N, "vector": GOOD}, "0 columns named 'embedding'"),
        ({"id": IDS_N.astype(np.int32), "embedding": GOOD}, "'id' is int32; wanted int64"),
        ({"id": ["a", "b", "c"], "embedding": GOOD}, "'id' is string; wanted int64"),
        ({"id": IDS_N, "embedding": IDS_N}, "'embedding' is int64; wanted a fixed_size_list of float.* of 2 values"),
        ({"id": IDS_N, "embedding": _fixed([[1, 2]] * 3, pa.int8(), 2)}, "fixed_size_list<.*int8>"),
        ({"id": IDS_N, "embedding": _fixed([[1, 2, 3]] * 3, pa.float32(), 3)}, "of dimension 3; wanted 2"),
        ({"id": IDS_N, "embedding": [[1.0, 2.0], [1.0, 2.0], [1.0]]}, "row 2: 'embedding' has 1 values, row 0 has 2"),
        ({"id": IDS_N, "embedding": GOOD, "side_info": _fixed([[1]] * 3, pa.int8(), 1)}, "scale b'' in its field"),
        ({"id": IDS_N, "embedding": GOOD, "side_info": ["x"] * 3}, "'side_info' is string"),
    ],
)
def test_wrong_columns_are_refused_with_what_was_seen_and_wanted(columns: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FormatError, match=rf"s3://b/00000\.parquet: .*{complaint}") as caught:
        _parse(_encode(**columns), 2)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_wanted_side_information_must_be_there_in_the_wanted_dimension() -> None:
    with pytest.raises(FormatError, match="0 columns named 'side_info'"):
        _parse(_encode(id=IDS_N, embedding=GOOD), 2, 3)
    data = shards.encode_table(shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, {}))
    with pytest.raises(FormatError, match="'side_info' has vectors of dimension 3; wanted 4"):
        _parse(data, 2, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["embedding", "side_info"])
def test_values_that_are_not_finite_are_refused_by_row(bad: float, column: str) -> None:
    vectors = VECTORS_ND.copy()
    vectors[1, 1] = bad
    chosen = {"embedding": VECTORS_ND, "side_info": VECTORS_ND} | {column: vectors}
    data = shards.encode_table(shards.build_table(IDS_N, chosen["embedding"], chosen["side_info"], {}))
    with pytest.raises(DataError, match=rf"00000\.parquet: row 1: '{column}' holds {bad}; .*1 such rows"):
        _parse(data)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"id": pa.array([1, None, 2], pa.int64()), "embedding": GOOD}, "row 1: the id is null"),
        ({"id": [7, 8, 7], "embedding": GOOD}, "rows 0 and 2 both have id 7"),
        ({"id": IDS_N, "embedding": [[1.0, 2.0], None, [3.0, 4.0]]}, "row 1: 'embedding' is null"),
        ({"id": IDS_N, "embedding": _fixed([[1, 2], [1, 2], [3, None]], pa.float32(), 2)}, "row 2: .* holds a null"),
    ],
)
def test_nulls_and_duplicates_are_refused_by_row(columns: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        _parse(_encode(**columns))


def test_a_null_in_a_fixed_size_list_is_refused_though_pyarrow_before_26_cannot_say_which() -> None:
    with pytest.raises(StoreError, match=r"row 1: 'embedding' is null|a row of a fixed_size_list is null"):
        _parse(_encode(id=IDS_N, embedding=_fixed([[1, 2], None, [3, 4]], pa.float32(), 2)))


def test_a_double_beyond_float32_is_refused_not_stored_as_infinite() -> None:
    with pytest.raises(DataError, match="row 1: 'embedding' holds inf"):
        _parse(_encode(id=IDS_N[:2], embedding=_fixed([[1.0], [1e300]], pa.float64(), 1)))


def test_building_refuses_names_types_and_lengths_that_do_not_fit() -> None:
    with pytest.raises(FormatError, match="carried column 'embedding'"):
        shards.build_table(IDS_N, VECTORS_ND, None, {"embedding": [1, 2, 3]})
    with pytest.raises(SettingsError, match="'bfloat16'; wanted one of"):
        shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, {}, side_dtype="bfloat16")
    with pytest.raises(DataError, match="'label': 2"):
        shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, {"label": [1, 2]})


def test_damaged_bytes_are_a_format_error() -> None:
    data = shards.encode_table(shards.build_table(IDS_N, VECTORS_ND, SIDE_NS, CARRIED))
    for damaged in (b"", data[:-20], data[: len(data) // 2], b"PAR1" + data[4:-4] + b"XXXX"):
        with pytest.raises(FormatError, match="not a readable Parquet file"):
            _parse(damaged)
