"""Ids in files, programs and command lines: which types are taken, what becomes of them, and what is refused."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.errors import DataError, FctRayError, FormatError
from fct_ray.key_types import key_type_of, plain, texts, to_python
from fct_ray.kinds import KeyType
from fct_ray.storage import given_ids, keys, pairs
from fct_ray.storage.query_file import read_query_file
from tests.keyed_stores import as_column, uuids

UUIDS = uuids(3)
BYTES = pa.array([key.bytes for key in UUIDS], pa.binary(16))
EXTENSION: Any = pa.ExtensionArray.from_storage(pa.uuid(), BYTES)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([3, 1, 2], pa.int8()), pa.int64()),
        (pa.array([3, 1, 2], pa.uint64()), pa.int64()),
        (pa.array([3, 1, 2]).dictionary_encode(), pa.int64()),
        (pa.array(["a", "b", "c"], pa.large_string()), pa.string()),
        (pa.array(["a", "b", "c"], pa.string_view()), pa.string()),
        (pa.array(["a", "b", "c"]).dictionary_encode(), pa.string()),
        (EXTENSION, pa.binary(16)),
        (BYTES, pa.binary(16)),
        (pa.array([b"", b"x", b"yy"], pa.large_binary()), pa.binary()),
    ],
)
def test_every_type_of_ids_becomes_one_of_four_and_keeps_its_values(
    column: pa.Array, wanted: pa.DataType, tmp_path: Path
) -> None:
    path = str(tmp_path / "ids.parquet")
    pq.write_table(pa.table({"id": column}), path)
    found = pairs.read_user_ids(path)
    assert found.type == wanted
    assert found.to_pylist() == plain(column).to_pylist()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([2**63], pa.uint64()), "uint64 with a number beyond int64; wanted int64: cast the ids to strings"),
        (pa.array([1.0]), "is double; wanted whole numbers .int64., strings, UUIDs or bytes"),
        (pa.array([["a"]]), "is list.*wanted whole numbers"),
        (pa.array(["a", None]), "row 1: the id is null"),
        (pa.array(["a", "b", "b", "a", "b"]), "rows 0 and 3 both have id a .3 repeated ids in all."),
        (pa.concat_arrays([BYTES, BYTES]), f"rows [0-2] and [3-5] both have id .*{UUIDS[0].hex[:0]}.*3 repeated"),
    ],
)
def test_ids_that_cannot_be_used_are_refused_by_row_and_type(column: pa.Array, said: str) -> None:
    with pytest.raises(FctRayError, match=f"ids.parquet: .*{said}"):
        keys.user_ids_of(pa.table({"id": column}), "ids.parquet")


@pytest.mark.parametrize("write", [str, lambda key: key.hex, lambda key: str(key).upper()])
def test_a_store_of_uuids_takes_them_as_text_in_any_usual_form(write: Any) -> None:
    given_as_text = pa.array([write(key) for key in UUIDS])
    assert keys.as_stored(given_as_text, KeyType.UUID, "f").equals(BYTES)


def test_a_store_of_bytes_takes_hexadecimal_text_and_one_of_uuids_any_sixteen_bytes() -> None:
    assert keys.as_stored(pa.array(["00FF", ""]), KeyType.BINARY, "f").to_pylist() == [b"\x00\xff", b""]
    assert keys.as_stored(BYTES.cast(pa.binary()), KeyType.UUID, "f").equals(BYTES)
    with pytest.raises(FormatError, match="not all have 16 bytes; wanted UUIDs"):
        keys.as_stored(pa.array([b"x"]), KeyType.UUID, "f")


def test_a_store_of_text_takes_uuids_as_the_text_that_they_are_written_as() -> None:
    assert keys.as_stored(BYTES, KeyType.STRING, "f").to_pylist() == [str(key) for key in UUIDS]


@pytest.mark.parametrize(
    ("ids", "wanted", "said"),
    [
        (
            pa.array([1]),
            KeyType.STRING,
            "the ids are int64; wanted strings, as the ids of this store are: name items by",
        ),
        (pa.array([1]), KeyType.UUID, "the ids are int64; wanted UUIDs"),
        (pa.array(["a"]), None, "the ids are string; wanted whole numbers .int64., as the ids of this store are"),
        (BYTES, None, "fixed_size_binary.*wanted whole numbers"),
        (pa.array(["6f1c"]), KeyType.UUID, "row 0: the id is '6f1c'; wanted UUIDs .* such as 6f1c2d3e-0000"),
        (pa.array(["00", "0"]), KeyType.BINARY, "row 1: the id is '0'; wanted bytes"),
    ],
)
def test_ids_of_another_type_than_the_store_has_get_one_clear_error(
    ids: pa.Array, wanted: KeyType | None, said: str
) -> None:
    with pytest.raises((FormatError, DataError), match=f"pairs.parquet: .*{said}"):
        keys.as_stored(ids, wanted, "pairs.parquet")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (7, [7]),
        (np.int64(7), [7]),
        (np.array([1, 2], np.uint8), [1, 2]),
        (pd.Series([1, 2]), [1, 2]),
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"]), ["a", "b"]),
        (UUIDS, [key.bytes for key in UUIDS]),
        (np.array(UUIDS, object), [key.bytes for key in UUIDS]),
        (pd.Series(UUIDS), [key.bytes for key in UUIDS]),
        ([b"\x01\x00", b"\x00"], [b"\x01\x00", b"\x00"]),
        (EXTENSION, [key.bytes for key in UUIDS]),
        ([], []),
    ],
)
def test_a_program_gives_ids_in_the_form_that_it_has_them(values: Any, wanted: list[Any]) -> None:
    assert given_ids.from_python(values, "ids").to_pylist() == wanted


@pytest.mark.parametrize("values", [[1, "a"], [1.5], [[1], [2]], [2**63], [UUIDS[0], "a"], [None]])
def test_values_that_are_no_ids_of_one_kind_are_refused(values: Any) -> None:
    with pytest.raises((FormatError, DataError), match="ids: "):
        given_ids.from_python(values, "ids")


def test_ids_are_typed_as_the_store_has_them() -> None:
    assert given_ids.from_texts(["7", "-8"], None, "--items").to_pylist() == [7, -8]
    assert given_ids.from_texts([str(UUIDS[0])], KeyType.UUID, "--items").to_pylist() == [UUIDS[0].bytes]
    with pytest.raises(FormatError, match=r"--items: .*'x'; the ids of this store are whole numbers"):
        given_ids.from_texts(["x"], None, "--items")


@given(
    st.one_of(
        st.lists(st.text(max_size=12), min_size=1, unique=True).map(lambda some: (some, KeyType.STRING)),
        st.lists(st.uuids(), min_size=1, unique=True).map(lambda some: (some, KeyType.UUID)),
        st.lists(st.binary(max_size=9), min_size=1, unique=True).map(lambda some: (some, KeyType.BINARY)),
    )
)
def test_keys_survive_the_way_to_people_and_programs_and_back(case: tuple[list[Any], KeyType]) -> None:
    values, key_type = case
    column = as_column(values, key_type)
    assert key_type_of(column.type) is key_type
    assert to_python(column).tolist() == values
    assert given_ids.from_texts(texts(column), key_type, "back").equals(column)
    again = keys.as_stored(given_ids.from_python(values, "back"), key_type, "back")
    assert again.equals(column)
    assert keys.repeated_rows(column) is None
    assert keys.repeats_earlier(pa.concat_arrays([column, column])).tolist() == [False] * len(values) + [True] * len(
        values
    )


def test_relevant_items_of_queries_and_the_names_of_queries_may_be_keys(tmp_path: Path) -> None:
    path = str(tmp_path / "queries.parquet")
    relevant = pa.array([[str(UUIDS[0])], [str(UUIDS[1]), str(UUIDS[0])]])
    pq.write_table(pa.table({"old": [[0.5], [1.0]], "relevant": relevant}), path)
    file = read_query_file(path)
    assert file.relevant.to_pylist() == [str(UUIDS[0]), str(UUIDS[1]), str(UUIDS[0])]
    pq.write_table(pa.table({"id": EXTENSION, "embedding": [[0.5], [1.0], [2.0]]}), path)
    assert pairs.read_queries(path).ids.equals(BYTES)


def test_a_uuid_object_is_what_programs_get() -> None:
    assert to_python(BYTES).tolist() == UUIDS
    assert isinstance(to_python(BYTES)[0], uuid.UUID)
    assert to_python(pa.array([BYTES[0].as_py(), None], pa.binary(16))).tolist() == [UUIDS[0], None]
