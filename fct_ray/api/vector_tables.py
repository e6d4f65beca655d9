"""Vectors that a user has in memory, as the Parquet file that a job reads: one row an item, `id` and `embedding`.

Owns: which forms are taken: a path, anything that speaks Arrow (tables of pyarrow, pandas, polars, DuckDB ...), or two NumPy
arrays. What the values must be is checked where the file is read. Array legend: N items, W dimensions.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FctRayError, SettingsError
from fct_ray.storage import given_ids
from fct_ray.storage.keys import plain_ids

if TYPE_CHECKING:
    import pandas as pd

VectorTable: TypeAlias = "str | Path | pa.Table | pd.DataFrame | tuple[npt.ArrayLike, npt.ArrayLike]"
"""A path (local or s3://), a table with columns `id` and `embedding`, or (ids [N], embeddings [N, W])."""


def is_path(vectors: object) -> bool:
    """Whether the vectors are in a file already."""
    return isinstance(vectors, str | Path)


def parquet_bytes(vectors: VectorTable, what: str) -> bytes:
    """A Parquet file with these vectors and all their other columns; the same vectors give the same bytes.

    `what` names them in errors, e.g. "pairs".

    Raises:
        SettingsError: it is none of the forms, a column is missing, or ids are neither whole numbers nor keys.
    """
    table = _from_arrays(vectors, what) if isinstance(vectors, tuple) else _from_arrow(vectors, what)
    missing = [name for name in ("id", "embedding") if name not in table.column_names]
    if missing:
        raise SettingsError(
            f"{what}: has the columns {table.column_names}, without {missing[0]!r}; want id and embedding"
        )
    try:
        ids = plain_ids(table["id"], what)
    except FctRayError as error:
        raise SettingsError(str(error)) from error
    table = table.set_column(table.column_names.index("id"), "id", ids).replace_schema_metadata(None)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _from_arrays(vectors: tuple[Any, ...], what: str) -> pa.Table:
    if len(vectors) != 2:
        raise SettingsError(
            f"{what}: a tuple of {len(vectors)}; want two arrays, (ids [N], embeddings [N, dimensions])"
        )
    try:
        ids = given_ids.from_python(vectors[0], what)
    except FctRayError as error:
        raise SettingsError(str(error)) from error
    embeddings_NW = np.asarray(vectors[1], dtype=np.float32)
    if embeddings_NW.ndim != 2 or len(ids) != len(embeddings_NW):
        raise SettingsError(
            f"{what}: ids have shape {(len(ids),)} and embeddings {embeddings_NW.shape}; want [N] and [N, dimensions]"
        )
    flat = pa.array(np.ascontiguousarray(embeddings_NW).ravel())
    return pa.table({"id": ids, "embedding": pa.FixedSizeListArray.from_arrays(flat, embeddings_NW.shape[1])})


def _from_arrow(vectors: Any, what: str) -> pa.Table:
    try:
        if hasattr(vectors, "__arrow_c_stream__") or hasattr(vectors, "__dataframe__"):
            return pa.table(vectors)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise SettingsError(
            f"{what}: cannot become an Arrow table ({error!s:.200}); want rows of equal kind"
        ) from error
    raise SettingsError(
        f"{what}: got a {type(vectors).__name__}; want a path, an Arrow table or a data frame with columns id and embedding, "
        "or a tuple (ids, embeddings) of arrays"
    )
