"""Tables as table formats and data set libraries keep them: the rest of the lines of docs/reference/tools.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.tool_files import BYTES, INTS, ROWS, TEXTS, VECTORS_ND, Written, arrow_table

LISTS = pa.array(ROWS, pa.list_(pa.float32()))


def _datasets(build: Callable[[Any], Any], *, to: str) -> Callable[[Path], str]:
    """A data set written by `to_parquet`, or by `save_to_disk` and given to adopt ("path") or to import ("place")."""

    def make(directory: Path) -> str:
        import datasets

        datasets.disable_progress_bars()
        made = build(datasets)
        if to == "parquet":
            made.to_parquet(str(directory / "a.parquet"))
            return str(directory)
        made.save_to_disk(str(directory / "saved"))
        return f"{'huggingface:' if to == 'place' else ''}{directory / 'saved'}"

    return make


def _features(datasets: Any, vectors: Any, ids: Any = INTS, kind: str = "int64") -> Any:
    features = datasets.Features({"id": datasets.Value(kind), "embedding": vectors})
    rows = VECTORS_ND.reshape(6, 2, 2) if isinstance(vectors, datasets.Array2D) else ROWS
    return datasets.Dataset.from_dict({"id": ids, "embedding": list(rows)}, features=features)


def _floats(datasets: Any) -> Any:
    return _features(datasets, datasets.List(datasets.Value("float32")))


def _of_length(datasets: Any) -> Any:
    return _features(datasets, datasets.List(datasets.Value("float32"), length=4))


def _texts(datasets: Any) -> Any:
    return _features(datasets, datasets.List(datasets.Value("float64")), TEXTS, "string")


def _matrices(datasets: Any) -> Any:
    return _features(datasets, datasets.Array2D((2, 2), "float32"))


def _filtered(datasets: Any) -> Any:
    more = datasets.concatenate_datasets([_floats(datasets), _floats(datasets)])
    return more.select([3, 2, 1, 0, 4, 5])


DATASETS = [
    Written(tool="Hugging Face datasets", what="`to_parquet`, lists of float32", make=_datasets(_floats, to="parquet")),
    Written(
        tool="Hugging Face datasets",
        what="`to_parquet`, lists of fixed length",
        make=_datasets(_of_length, to="parquet"),
    ),
    Written(
        tool="Hugging Face datasets",
        what="`to_parquet`, `Array2D`",
        make=_datasets(_matrices, to="parquet"),
        refused="reshape",
    ),
    Written(tool="Hugging Face datasets", what="`save_to_disk`", is_imported=True, make=_datasets(_floats, to="place")),
    Written(
        tool="Hugging Face datasets",
        what="`save_to_disk`, text ids, float64",
        is_imported=True,
        make=_datasets(_texts, to="place"),
        ids=TEXTS,
    ),
    Written(
        tool="Hugging Face datasets",
        what="`save_to_disk` after `select` or `shuffle`",
        is_imported=True,
        make=_datasets(_filtered, to="place"),
    ),
    Written(
        tool="Hugging Face datasets",
        what="`save_to_disk`, given to adopt",
        make=_datasets(_floats, to="path"),
        refused="import --origin huggingface:",
    ),
]


def _delta(table: pa.Table, *, prefix: str = "delta:", **options: Any) -> Callable[[Path], str]:
    """A table with rows that were deleted and files that were superseded, which are there still."""

    def make(directory: Path) -> str:
        import deltalake

        uri = str(directory / "table")
        deltalake.write_deltalake(uri, table.slice(0, 2), **options)
        deltalake.write_deltalake(uri, table.slice(2), mode="append", **options)
        gone = table.slice(0, 1).set_column(1, "embedding", table["embedding"].slice(3, 1))
        deltalake.write_deltalake(uri, gone, mode="append", **options)
        live = deltalake.DeltaTable(uri)
        live.delete("true")
        deltalake.write_deltalake(uri, table, mode="append", **options)
        live.update_incremental()
        live.optimize.compact()
        return prefix + uri

    return make


PARTITIONED = arrow_table(pa.array(INTS), LISTS, lang=["de", "en"] * 3)
DELTA = [
    Written(
        tool="Delta Lake",
        what="a table with deleted rows and superseded files",
        is_imported=True,
        make=_delta(arrow_table(pa.array(INTS), LISTS)),
    ),
    Written(
        tool="Delta Lake",
        what="text ids",
        is_imported=True,
        make=_delta(arrow_table(pa.array(TEXTS), LISTS)),
        ids=TEXTS,
    ),
    Written(
        tool="Delta Lake", what="a partitioned table", is_imported=True, make=_delta(PARTITIONED, partition_by=["lang"])
    ),
    Written(
        tool="Delta Lake",
        what="its directory, given to adopt",
        make=_delta(arrow_table(pa.array(INTS), LISTS), prefix=""),
        refused="import --origin delta:",
    ),
]


def _iceberg(table: pa.Table, *, as_path: bool = False) -> Callable[[Path], str]:
    """A table with rows that were deleted, whose old files are there still."""

    def make(directory: Path) -> str:
        from pyiceberg.catalog.sql import SqlCatalog

        catalog = SqlCatalog("local", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
        catalog.create_namespace("shop")
        made = catalog.create_table("shop.items", table.schema)
        made.append(table.slice(0, 4))
        made.append(table.slice(4))
        made.append(
            table.slice(0, 1).set_column(
                0, "id", pa.array(["gone"] if table.schema.field("id").type == pa.string() else [5])
            )
        )
        made.delete("id == 'gone'" if table.schema.field("id").type == pa.string() else "id == 5")
        if table.schema.field("id").type != pa.string():
            made.append(table.slice(INTS.index(5), 1))
        location = made.metadata_location
        return made.location().removeprefix("file://") if as_path else f"iceberg:{location}"

    return make


ICEBERG = [
    Written(
        tool="Iceberg",
        what="a table with deleted rows",
        is_imported=True,
        make=_iceberg(arrow_table(pa.array(INTS), LISTS)),
    ),
    Written(
        tool="Iceberg", what="text ids", is_imported=True, make=_iceberg(arrow_table(pa.array(TEXTS), LISTS)), ids=TEXTS
    ),
    Written(
        tool="Iceberg",
        what="its directory, given to adopt",
        make=_iceberg(arrow_table(pa.array(INTS), LISTS), as_path=True),
        refused="import --origin iceberg:",
    ),
]


def _lance(table: pa.Table, *, prefix: str = "lance:") -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        import lance

        uri = str(directory / "set.lance")
        lance.write_dataset(table.slice(0, 2), uri)
        lance.write_dataset(table, uri, mode="overwrite")
        lance.write_dataset(table.slice(0, 1).set_column(0, "id", table["id"].slice(2, 1)), uri, mode="append")
        made = lance.dataset(uri)
        made.delete(f"_rowid = {made.to_table(with_row_id=True)['_rowid'].to_pylist()[-1]}")
        return prefix + uri

    return make


def _lancedb(directory: Path) -> str:
    import lancedb

    lancedb.connect(str(directory)).create_table("items", arrow_table(pa.array(INTS), LISTS))
    return f"lancedb:{directory}#items"


FIXED = pa.array(ROWS, pa.list_(pa.float32(), 4))
HALVES = pa.array(list(VECTORS_ND.astype(np.float16)), pa.list_(pa.float16(), 4))
LANCE = [
    Written(
        tool="Lance",
        what="a data set with deleted rows and older versions",
        is_imported=True,
        make=_lance(arrow_table(pa.array(INTS), FIXED)),
    ),
    Written(tool="Lance", what="float16 vectors", is_imported=True, make=_lance(arrow_table(pa.array(INTS), HALVES))),
    Written(
        tool="Lance",
        what="ids of 16 bytes",
        is_imported=True,
        make=_lance(arrow_table(pa.array(BYTES, pa.binary(16)), FIXED)),
        ids=BYTES,
    ),
    Written(
        tool="Lance",
        what="its directory, given to adopt",
        make=_lance(arrow_table(pa.array(INTS), FIXED), prefix=""),
        refused="import --origin lance:",
    ),
    Written(tool="LanceDB", what="a table", is_imported=True, make=_lancedb),
]

TABLES = [*DATASETS, *DELTA, *ICEBERG, *LANCE]
