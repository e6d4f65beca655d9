"""Columns that lie in the names of directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from fct_ray.kinds import OnBadRow
from fct_ray.storage import objects, parquet_listing, quarantine, shards
from fct_ray.storage.partitions import partition_values


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("s3://b/g/lang=de/year=2024/a.parquet", {"lang": "de", "year": "2024"}),
        ("file:///g/lang%3Dde/a.parquet", {"lang": "de"}),
        ("s3://b/env=prod/store/versions/000001/shards/00000.parquet", {}),
        ("s3://b/lang=de/plain/a.parquet", {}),
        ("s3://b/g/lang=__HIVE_DEFAULT_PARTITION__/a.parquet", {"lang": None}),
        ("s3://b/g/path=a%2Fb%20c/empty=/a.parquet", {"path": "a/b c", "empty": ""}),
        ("s3://b/g/a=b=c/x=1.parquet", {"a": "b=c"}),
        ("s3://b/g/=x/a.parquet", {}),
    ],
)
def test_the_directories_directly_around_an_object_are_its_partition(uri: str, values: dict[str, str | None]) -> None:
    assert partition_values(uri) == values
    assert list(partition_values(uri)) == list(values), "outermost first"


def _table() -> pa.Table:
    return shards.build_table(np.arange(3), np.eye(3, dtype=np.float32), None, {"lang": ["x", "y", "z"]})


@pytest.mark.parametrize("on_bad_row", OnBadRow)
def test_a_partition_is_a_column_of_text_and_never_replaces_one_of_the_file(on_bad_row: OnBadRow) -> None:
    uri, data = "s3://b/g/lang=de/year=2024/id=7/a.parquet", shards.encode_table(_table())
    columns, _ = quarantine.parse_shard(data, uri, on_bad_row, dimension=3, side_dimension=None)
    assert columns.table.column_names == ["id", "embedding", "lang", "year"]
    assert columns.table["lang"].to_pylist() == ["x", "y", "z"]
    assert columns.table["year"].to_pylist() == ["2024"] * 3
    assert columns.ids_N.tolist() == [0, 1, 2]
    again = shards.parse_shard(shards.encode_table(columns.table), "s3://b/store/0", dimension=3, side_dimension=None)
    assert again.table == columns.table, "a copy in a store holds it as any other column"


def test_what_pyarrow_writes_as_a_partitioned_data_set_is_read_as_pyarrow_reads_it(tmp_path: Path) -> None:
    table = _table().append_column("place", pa.array(["a/b", None, "ä=%"]))
    partitioning = pa.dataset.partitioning(pa.schema([("lang", pa.string()), ("place", pa.string())]), flavor="hive")
    pa.dataset.write_dataset(table, tmp_path, format="parquet", partitioning=partitioning)
    theirs = pa.dataset.dataset(tmp_path, format="parquet", partitioning=partitioning).to_table().sort_by("id")
    found = [
        shards.parse_shard(objects.read_bytes(uri), uri, dimension=3, side_dimension=None).table
        for uri in parquet_listing.list_parquet(str(tmp_path))
    ]
    assert pa.concat_tables(found).sort_by("id").to_pylist() == theirs.select(table_names(found)).to_pylist()


def table_names(tables: list[pa.Table]) -> list[str]:
    assert set(tables[0].column_names) == {"id", "embedding", "lang", "place"}
    return list(tables[0].column_names)
