"""Galleries as other tools write them: six rows, by every tool and type of the table in docs/reference/tools.md.

Owns: the list of them, each with what becomes of it. All files are written by the tools themselves, while a test runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.kinds import KeyType
from fct_ray.workflows.adopt import ColumnNames

VECTORS_ND = np.arange(24, dtype=np.float32).reshape(6, 4) / 8 - 1  # exact in float16, too
ROWS = VECTORS_ND.tolist()
INTS = [4, 9, 1, 77, 5, 1000]
TEXTS = ["a", "b", "ä", "d/e", "f g", "h"]
UUIDS = [uuid.UUID(int=number * 2**90 + 7) for number in INTS]
BYTES = [one.bytes for one in UUIDS]
NUMBERED = list(range(6))
"""What rows are called that have no ids."""
OTHER_NAMES = ColumnNames(id="doc_id", embedding="emb")
NUMBER_ROWS = ColumnNames(id="row")
_KEY_NAMES = {KeyType.STRING: "text", KeyType.UUID: "UUID", KeyType.BINARY: "bytes"}


@dataclass(frozen=True, kw_only=True)
class Written:
    """One line of the table."""

    tool: str
    what: str
    """What is written, for readers."""
    make: Callable[[Path], str]
    """Writes it below a directory; returns what is adopted (a path) or imported (a place)."""
    ids: list[Any] = field(default_factory=lambda: INTS)
    """What the rows are called then."""
    keys: KeyType | None = None
    """The type of keys, where `ids` do not tell."""
    columns: ColumnNames = field(default_factory=ColumnNames)
    """The flags that are needed."""
    is_imported: bool = False
    """Whether `make` returns a place that is imported."""
    refused: str | None = None
    """None: it is taken. Else the words of the error that say what to do."""

    @property
    def key_type(self) -> KeyType | None:
        """What the ids are in a store."""
        return self.keys or {int: None, str: KeyType.STRING, bytes: KeyType.UUID}[type(self.ids[0])]

    @property
    def outcome(self) -> str:
        """What becomes of it, as the page says it."""
        if self.refused is not None:
            return f"refused; the error names `{self.refused}`"
        called = "ids" if self.key_type is None else f"keys ({_KEY_NAMES[self.key_type]})"
        how = f"{'imported' if self.is_imported else 'adopted'}, {called}"
        return f"{how}, with `{self.flags}`" if self.flags else how

    @property
    def flags(self) -> str:
        """The flags as they are typed."""
        given = {"id": self.columns.id, "embedding": self.columns.embedding}
        return " ".join(f"--columns.{name} {value}" for name, value in given.items() if value != name)


def _written(function: Callable[[Path], Any]) -> Callable[[Path], str]:
    """A maker that writes DIRECTORY/a.parquet."""

    def make(directory: Path) -> str:
        function(directory / "a.parquet")
        return str(directory)

    return make


# pandas


def _pandas(**columns: Any) -> Callable[[Path], str]:
    import pandas as pd

    given = {"id": INTS, "embedding": list(VECTORS_ND), "price": [1.5] * 6, **columns}
    frame = pd.DataFrame({name: values for name, values in given.items() if values is not None})
    return _written(lambda path: frame.to_parquet(path))


def _pandas_index(directory: Path) -> str:
    import pandas as pd

    frame = pd.DataFrame({"embedding": list(VECTORS_ND)}, index=pd.Index(TEXTS, name="id"))
    return _written(lambda path: frame.to_parquet(path))(directory)


def _pandas_categories(directory: Path) -> str:
    import pandas as pd

    return _pandas(id=pd.Categorical(TEXTS))(directory)


def _pandas_nullable(directory: Path) -> str:
    import pandas as pd

    return _pandas(id=pd.array(INTS, dtype="Int64"))(directory)


def _pandas_wide(directory: Path) -> str:
    numbers = {f"emb_{place}": VECTORS_ND[:, place] for place in range(4)}
    return _pandas(embedding=None, **numbers)(directory)


PANDAS = [
    Written(tool="pandas", what="`int64` ids, arrays of float32", make=_pandas()),
    Written(tool="pandas", what="`int64` ids, lists of Python numbers (float64)", make=_pandas(embedding=ROWS)),
    Written(tool="pandas", what="text ids (`object`, `str`)", make=_pandas(id=TEXTS), ids=TEXTS),
    Written(tool="pandas", what="ids in a named index", make=_pandas_index, ids=TEXTS),
    Written(tool="pandas", what="ids as `category`", make=_pandas_categories, ids=TEXTS),
    Written(tool="pandas", what="ids as `Int64` (nullable)", make=_pandas_nullable),
    Written(tool="pandas", what="no ids", make=_pandas(id=None), ids=NUMBERED, columns=NUMBER_ROWS),
    Written(
        tool="pandas",
        what="columns of other names",
        make=_pandas(id=None, embedding=None, doc_id=INTS, emb=list(VECTORS_ND)),
        columns=OTHER_NAMES,
    ),
    Written(
        tool="pandas",
        what="the same, without the flags",
        make=_pandas(id=None, embedding=None, doc_id=INTS, emb=list(VECTORS_ND)),
        refused="--columns.id doc_id --columns.embedding emb",
    ),
    Written(
        tool="pandas",
        what="float64 ids (a gap was there once)",
        make=_pandas(id=[float(one) for one in INTS]),
        refused="Cast the column to int64",
    ),
    Written(
        tool="pandas",
        what="one column a number (`emb_0`, `emb_1` ...)",
        make=_pandas_wide,
        refused="frame['embedding'] = ",
    ),
    Written(
        tool="pandas",
        what="vectors as text",
        make=_pandas(embedding=[str(row) for row in ROWS]),
        refused="json.loads",
    ),
    Written(
        tool="pandas",
        what="vectors as bytes (`tobytes`)",
        make=_pandas(embedding=[row.tobytes() for row in VECTORS_ND]),
        refused="numpy.frombuffer",
    ),
]


# Polars


def _polars(ids: Any = INTS, kind: Any = None, vectors: Any = ROWS, vector_kind: Any = None, **options: Any) -> Any:
    def make(directory: Path) -> str:
        import polars as pl

        id_type = getattr(pl, kind) if isinstance(kind, str) else kind
        wanted = {
            None: pl.List(pl.Float32), "array": pl.Array(pl.Float32, 4), "double": pl.List(pl.Float64),
            "half": pl.List(pl.Float32), "ints": pl.List(pl.Int64), "text": pl.String, "bytes": pl.Binary,
        }[vector_kind]  # fmt: skip
        frame = pl.DataFrame(
            {
                "id": pl.Series(ids, dtype=cast("Any", id_type)),
                "embedding": pl.Series(vectors, dtype=cast("Any", wanted)),
                "lang": ["de", "en"] * 3,
            }
        )
        directory.mkdir(exist_ok=True)
        if options.get("partitioned"):
            frame.write_parquet(directory / "hive", partition_by="lang")
            return str(directory / "hive")
        frame.write_parquet(directory / "a.parquet")
        return str(directory)

    return make


POLARS = [
    Written(tool="Polars", what="`Int64` ids, `List(Float32)`", make=_polars()),
    Written(tool="Polars", what="`Array(Float32, n)`", make=_polars(vector_kind="array")),
    Written(tool="Polars", what="`List(Float64)`", make=_polars(vector_kind="double")),
    Written(tool="Polars", what="`UInt64` ids", make=_polars(kind="UInt64")),
    Written(tool="Polars", what="`String` ids", make=_polars(TEXTS, "String"), ids=TEXTS),
    Written(tool="Polars", what="`Categorical` ids", make=_polars(TEXTS, "Categorical"), ids=TEXTS),
    Written(
        tool="Polars", what="`Binary` ids of 16 bytes", make=_polars(BYTES, "Binary"), ids=BYTES, keys=KeyType.BINARY
    ),
    Written(tool="Polars", what="partitioned (`partition_by`)", make=_polars(partitioned=True)),
    Written(
        tool="Polars",
        what="`List(Int64)`",
        make=_polars(vectors=[[1, 2, 3, 4]] * 6, vector_kind="ints"),
        refused="to float32",
    ),
    Written(
        tool="Polars",
        what="vectors as `String`",
        make=_polars(vectors=[str(row) for row in ROWS], vector_kind="text"),
        refused="json.loads",
    ),
    Written(
        tool="Polars",
        what="vectors as `Binary`",
        make=_polars(vectors=[row.tobytes() for row in VECTORS_ND], vector_kind="bytes"),
        refused="numpy.frombuffer",
    ),
]


# DuckDB


def _duckdb(select: str, options: str = "") -> Callable[[Path], str]:
    """`COPY (SELECT ...) TO`, from the table `t` of ids of many types (i, s, u) and vectors (v)."""

    def make(directory: Path) -> str:
        import duckdb

        base = pa.table(
            {"i": INTS, "s": TEXTS, "u": [str(one) for one in UUIDS], "v": pa.array(ROWS, pa.list_(pa.float32()))}
        )
        place = directory / ("hive" if options else "a.parquet")
        with duckdb.connect() as connection:
            connection.register("t", base)
            connection.execute(f"COPY (SELECT {select} FROM t) TO '{place}' (FORMAT parquet{options})")  # noqa: S608 (ours)
        return str(directory)

    return make


DUCKDB = [
    Written(tool="DuckDB", what="`BIGINT` ids, `FLOAT[]`", make=_duckdb("i AS id, v AS embedding")),
    Written(tool="DuckDB", what="`FLOAT[n]` (`ARRAY`)", make=_duckdb("i AS id, v::FLOAT[4] AS embedding")),
    Written(tool="DuckDB", what="`DOUBLE[]`", make=_duckdb("i AS id, v::DOUBLE[] AS embedding")),
    Written(tool="DuckDB", what="`VARCHAR` ids", make=_duckdb("s AS id, v AS embedding"), ids=TEXTS),
    Written(tool="DuckDB", what="`UUID` ids", make=_duckdb("u::UUID AS id, v AS embedding"), ids=BYTES),
    Written(
        tool="DuckDB",
        what="partitioned (`PARTITION_BY`)",
        make=_duckdb("i AS id, v AS embedding, i % 2 AS half", ", PARTITION_BY (half)"),
    ),
    Written(
        tool="DuckDB",
        what="`HUGEINT` ids (written as double)",
        make=_duckdb("i::HUGEINT AS id, v AS embedding"),
        refused="Cast the column to int64",
    ),
    Written(
        tool="DuckDB",
        what="`DECIMAL` ids",
        make=_duckdb("i::DECIMAL(18,0) AS id, v AS embedding"),
        refused="Cast the column to int64",
    ),
]


# Arrow, NumPy, FAISS


def arrow_table(ids: Any = INTS, vectors: Any = None, **columns: Any) -> pa.Table:
    """Ids and vectors as Arrow types."""
    given = pa.array(ROWS, pa.list_(pa.float32())) if vectors is None else vectors
    return pa.table({"id": ids, "embedding": given, **columns})


def _arrow(*args: Any) -> Callable[[Path], str]:
    return _written(lambda path: pq.write_table(arrow_table(*args), path))


def _scaled(path: Path) -> None:
    scaled = pa.field("embedding", pa.list_(pa.int8(), 4), metadata={"scale": "0.125"})
    numbers = pa.array((VECTORS_ND * 8).astype(np.int8).tolist(), scaled.type)
    pq.write_table(pa.table([pa.array(INTS), numbers], schema=pa.schema([pa.field("id", pa.int64()), scaled])), path)


ARROW = [
    Written(
        tool="pyarrow",
        what="`fixed_shape_tensor`",
        make=_arrow(INTS, pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS_ND)),
    ),
    Written(tool="pyarrow", what="lists of float16", make=_arrow(INTS, pa.array(ROWS, pa.list_(pa.float16())))),
    Written(tool="pyarrow", what="`large_list`", make=_arrow(INTS, pa.array(ROWS, pa.large_list(pa.float32())))),
    Written(tool="pyarrow", what="`list_view`", make=_arrow(INTS, pa.array(ROWS, pa.list_view(pa.float32())))),
    Written(tool="pyarrow", what="int8 with a scale in the field's metadata", make=_written(_scaled)),
    Written(tool="pyarrow", what="`uuid` ids", make=_arrow(pa.array(BYTES, pa.uuid())), ids=BYTES),
    Written(tool="pyarrow", what="dictionary-encoded ids", make=_arrow(pa.array(INTS).dictionary_encode())),
    Written(
        tool="pyarrow",
        what="ids beyond int64",
        make=_arrow(pa.array([2**63 + one for one in INTS], pa.uint64())),
        refused="cast the ids to strings",
    ),
    Written(
        tool="pyarrow",
        what="tensors of several dimensions",
        make=_arrow(INTS, pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS_ND.reshape(6, 2, 2))),
        refused="reshape them to (4,)",
    ),
    Written(
        tool="pyarrow",
        what="binary codes (lists of uint8)",
        make=_arrow(INTS, pa.array([[1, 2]] * 6, pa.list_(pa.uint8()))),
        refused="numpy.unpackbits",
    ),
]


def _npy(metadata: bool, vectors_ND: Any = VECTORS_ND) -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        for number, rows in enumerate((slice(0, 4), slice(4, 6))):
            np.save(directory / f"emb_{number}.npy", vectors_ND[rows])
            if metadata:
                pq.write_table(pa.table({"id": INTS[rows]}), directory / f"metadata_{number}.parquet")
        return f"npy:{directory}"

    return make


def _only_npy(directory: Path) -> str:
    return _npy(metadata=False)(directory).removeprefix("npy:")


def _faiss(factory: str, ids: Any = None, *, as_path: bool = False) -> Callable[[Path], str]:
    def make(directory: Path) -> str:
        import faiss

        index: Any = faiss.index_factory(4, factory)
        if "PQ" in factory:
            index.do_polysemous_training = False
        sample = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
        index.train(sample)
        index.add(VECTORS_ND) if ids is None else index.add_with_ids(VECTORS_ND, np.array(ids, np.int64))
        faiss.write_index(index, str(directory / "all.faiss"))
        return f"{'' if as_path else 'faiss:'}{directory / 'all.faiss'}"

    return make


FILES = [
    Written(tool="NumPy", what="`.npy` matrices with metadata in Parquet", is_imported=True, make=_npy(metadata=True)),
    Written(
        tool="NumPy",
        what="`.npy` matrices alone",
        is_imported=True,
        make=_npy(metadata=False),
        ids=NUMBERED,
        columns=NUMBER_ROWS,
    ),
    Written(
        tool="NumPy",
        what="`.npy` of float16",
        is_imported=True,
        make=_npy(metadata=True, vectors_ND=VECTORS_ND.astype(np.float16)),
    ),
    Written(
        tool="NumPy",
        what="`.npy` of whole numbers",
        make=_npy(metadata=False, vectors_ND=np.ones((6, 4), np.int8)),
        columns=NUMBER_ROWS,
        refused="want float16, float32 or float64",
    ),
    Written(tool="NumPy", what="`.npy`, given to adopt", make=_only_npy, refused="import --origin npy:"),
    Written(tool="FAISS", what="`Flat`", is_imported=True, make=_faiss("Flat"), ids=NUMBERED),
    Written(tool="FAISS", what="`HNSW,Flat`", is_imported=True, make=_faiss("HNSW8,Flat"), ids=NUMBERED),
    Written(tool="FAISS", what="`IDMap,Flat`", is_imported=True, make=_faiss("IDMap,Flat", INTS)),
    Written(tool="FAISS", what="`IVF,Flat`", is_imported=True, make=_faiss("IVF2,Flat", INTS)),
    Written(tool="FAISS", what="`PQ`", make=_faiss("PQ2x4"), refused="Import the vectors from"),
    Written(tool="FAISS", what="`SQ8`", make=_faiss("SQ8"), refused="Import the vectors from"),
    Written(
        tool="FAISS",
        what="an index, given to adopt",
        make=_faiss("Flat", as_path=True),
        refused="import --origin faiss:",
    ),
]
