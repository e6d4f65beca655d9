"""Reading one part of a large file takes memory for its rows, not for the file or its row group."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import deltalake
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from tests.conftest import ROOT

_PEAK = """
import re, sys
from fct_ray.shards.foreign_tables import open_table
def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
table = open_table(sys.argv[1])
parts = table.parts(500)
table.read(parts[0])  # loads what is loaded once
before = megabytes("VmHWM")
assert table.read(parts[len(parts) * 3 // 4]).num_rows == 500
print(megabytes("VmHWM") - before)
"""


def npy(table: pa.Table, directory: Path) -> str:
    np.save(directory / "a.npy", np.stack(table["emb"].to_numpy()))
    pq.write_table(table.drop_columns(["emb"]), directory / "a.parquet", row_group_size=len(table))
    return f"npy:{directory}"


def huggingface(table: pa.Table, directory: Path) -> str:
    datasets.disable_progress_bars()
    datasets.Dataset(table).save_to_disk(str(directory))
    return f"huggingface:{directory}"


def delta(table: pa.Table, directory: Path) -> str:
    deltalake.write_deltalake(str(directory), table)
    return f"delta:{directory}"


def lance_set(table: pa.Table, directory: Path) -> str:
    lance.write_dataset(table, str(directory / "set.lance"))
    return f"lance:{directory / 'set.lance'}"


def iceberg(table: pa.Table, directory: Path) -> str:
    catalog = SqlCatalog("local", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
    catalog.create_namespace("shop")
    made = catalog.create_table("shop.items", table.schema)
    made.append(table)
    return f"iceberg:{made.metadata_location}"


@pytest.mark.parametrize("make", [npy, huggingface, delta, lance_set, iceberg])
def test_a_part_costs_memory_for_its_rows_and_not_for_the_file_or_its_row_group(
    make: Callable[[pa.Table, Path], str], tmp_path: Path
) -> None:
    rows, dimension = 40_000, 512  # 82 MB, in one file of one row group
    vectors = np.random.default_rng(0).random((rows, dimension), np.float32)
    table = pa.table(
        {
            "doc": [f"item {number}" for number in range(rows)],
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension).cast(pa.list_(pa.float32())),
        }
    )
    place = make(table, tmp_path)
    done = subprocess.run([sys.executable, "-c", _PEAK, place], capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(done.stdout.split()[-1]) < 30
