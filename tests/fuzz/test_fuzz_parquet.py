"""Damaged and strange Parquet files: pairs, queries, files to adopt, shards. Footers, pages, columns, bombs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.errors import FormatError
from fct_ray.storage import parquet_tables, shards
from tests.fuzz.damage import budget, damaged
from tests.fuzz.outcome import Child
from tests.fuzz.small_store import ROWS, D, gallery_table

FOREIGN: dict[str, dict[str, Any]] = {
    "snappy, page index": {"write_page_index": True, "data_page_version": "2.0"},
    "plain, no Arrow schema": {"store_schema": False, "use_dictionary": False, "compression": "none"},
    "zstd, checksums": {"compression": "zstd", "write_page_checksum": True},
}


def encoded(table: pa.Table, **options: Any) -> bytes:
    """A table as somebody else would have written it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def lists(table: pa.Table) -> pa.Table:
    """Vectors as plain lists, and a column that is carried."""
    vectors = np.stack(table["embedding"].to_numpy()).tolist()
    return pa.table({"id": table["id"], "embedding": vectors, "tags": [["a", "b"]] * ROWS})


ORIGINS = {"ours": shards.encode_table(gallery_table(0))} | {
    name: encoded(lists(gallery_table(0)), **options) for name, options in FOREIGN.items()
}
COLUMNS: dict[str, Any] = {
    "ids": np.arange(4),
    "ids as text": ["a", "b", "c", "d"],
    "ids with a null": pa.array([1, None, 3, 4], pa.int64()),
    "nulls": pa.nulls(4),
    "bytes": [b"", b"\xff", b"x", None],
    "vectors": pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float32(), 2)),
    "empty vectors": pa.array([[]] * 4, pa.list_(pa.float32(), 0)),
    "vectors of vectors": [[[1.0]]] * 4,
    "vectors with nulls": [[1.0, None]] * 4,
    "ragged": [[1.0], [], [1.0, 2.0], None],
    "int8": pa.array([[1, 2]] * 4, pa.list_(pa.int8(), 2)),
    "half": pa.array(np.ones(8, np.float16), pa.float16()).cast(pa.float16()),
    "dictionary": pa.array(["a"] * 4).dictionary_encode(),
    "dictionary of numbers": pa.DictionaryArray.from_arrays(pa.array([0] * 4, pa.int8()), pa.array([7], pa.int64())),
    "struct": [{"bytes": b"x"}] * 4,
    "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "time": pa.array([0] * 4, pa.timestamp("ns", tz="UTC")),
    "decimal": pa.array([1] * 4, pa.int64()).cast(pa.decimal128(38, 0)),
    "list view": pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float64())),
    "large lists": pa.array([[1.0, 2.0]] * 4, pa.large_list(pa.float64())),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("origin", ORIGINS)
@budget(60)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(child: Child, origin: str, data: st.DataObject) -> None:
    whole = ORIGINS[origin]
    child.run("parquet", data.draw(damaged(whole, tail=1500), label=origin))


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_undamaged_files_work(child: Child, origin: str) -> None:
    assert child.run("parquet", ORIGINS[origin])


@pytest.mark.timeout(3600)
@budget(60)
@given(
    chosen=st.lists(
        st.tuples(st.sampled_from(["id", "embedding", "side_info", "label", ""]), st.sampled_from(list(COLUMNS))),
        max_size=5,
    ),
    scale=st.sampled_from([None, b"", b"nan", b"-1", b"1e400", b"0x", b"1"]),
)
def test_columns_of_any_type_under_any_name_are_read_or_refused(
    child: Child, chosen: list[tuple[str, str]], scale: bytes | None
) -> None:
    arrays = [pa.array(COLUMNS[kind])[:4] for _, kind in chosen]
    metadata = None if scale is None else {b"scale": scale}
    fields = [pa.field(name, array.type, metadata=metadata) for (name, _), array in zip(chosen, arrays, strict=True)]
    child.run("parquet", encoded(pa.Table.from_arrays(arrays, schema=pa.schema(fields))))


def test_the_strange_columns_can_also_be_a_good_file(child: Child) -> None:
    assert child.run("parquet", encoded(pa.table({"id": COLUMNS["ids"], "embedding": COLUMNS["vectors"]})))


def test_a_column_whose_name_is_no_text_is_refused(child: Child) -> None:
    data = ORIGINS["plain, no Arrow schema"]
    assert b"tags" in data
    assert not child.run("parquet", data.replace(b"tags", b"t\xffgs"))


@pytest.mark.parametrize("claimed", [-1, 2**31, 2**60, 2**62])
def test_a_footer_that_claims_other_row_counts_is_refused_unread(child: Child, claimed: int) -> None:
    data = _with_claimed_rows(ORIGINS["ours"], claimed)
    assert not child.run("parquet", data)
    with pytest.raises(FormatError, match=r"claims|not a readable Parquet file"):
        parquet_tables.read_parquet_bytes(data, "uri")


def test_a_small_file_that_unfolds_to_forty_million_rows_is_refused_unread() -> None:
    rows = 40_000_000
    sink = pa.BufferOutputStream()
    dictionary = pa.array([0], pa.int64())
    schema = pa.schema([pa.field("id", pa.dictionary(pa.int8(), pa.int64()))])
    with pq.ParquetWriter(sink, schema) as writer:
        part = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows // 10, np.int8)), dictionary)
        for _ in range(10):
            writer.write_table(pa.Table.from_arrays([part], schema=schema), row_group_size=rows // 10)
    data = bytes(sink.getvalue())
    assert len(data) < 200_000
    with pytest.raises(FormatError, match="claims row counts of 4,000,000 to 40,000,000"):
        parquet_tables.read_parquet_bytes(data, "bomb.parquet")


@pytest.mark.parametrize("size", [0, D + 1, 2**31 - 1])
def test_an_arrow_schema_with_other_list_sizes_than_the_data_is_refused(child: Child, size: int) -> None:
    table = lists(gallery_table(0)).select(["id", "embedding"])
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("embedding", pa.list_(pa.float32(), size))])
    text = base64.b64encode(schema.serialize().to_pybytes())
    data = encoded(table.replace_schema_metadata({b"ARROW:schema": text}))
    assert not child.run("parquet", data)


def _with_claimed_rows(data: bytes, claimed: int) -> bytes:
    """The same file; wherever its footer says how many rows there are, it says `claimed` (Thrift: zigzag varints)."""
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8].replace(b"\x16" + _varint(ROWS), b"\x16" + _varint(claimed))
    assert footer != data[-8 - size : -8]
    return data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _varint(number: int) -> bytes:
    value, out = (number << 1) ^ (number >> 63), bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
