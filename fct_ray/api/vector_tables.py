"""Vectors that a user has in memory, as the Parquet file that a job reads: one row an item, `id` and `embedding`.

Owns: which forms are taken: a path, an Arrow table, a pandas frame, or two NumPy arrays. Array legend: N items, W dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

VectorTable: TypeAlias = "str | Path | pa.Table | pd.DataFrame | tuple[npt.ArrayLike, npt.ArrayLike]"
"""A path (local or s3://), a table with columns `id` and `embedding`, or (ids [N], embeddings [N, W])."""


def parquet_file(vectors: VectorTable, directory: Path, what: str) -> str:
    """The path of a Parquet file with these vectors: the given one, or one written into `directory`.

    `what` names them in errors, e.g. "pairs".

    Raises:
        SettingsError: it is none of the forms, or columns are missing, or the vectors differ in length.
    """
    if isinstance(vectors, str | Path):
        return str(vectors)
    ids_N, embeddings_NW = _arrays(vectors, what)
    if embeddings_NW.ndim != 2 or ids_N.shape != (len(embeddings_NW),):
        raise SettingsError(
            f"{what}: ids have shape {ids_N.shape} and embeddings {embeddings_NW.shape}; want [N] and [N, dimensions]"
        )
    if not np.issubdtype(ids_N.dtype, np.integer):
        raise SettingsError(f"{what}: ids are {ids_N.dtype}; want whole numbers (int64), the ids of the store")
    flat = pa.array(np.ascontiguousarray(embeddings_NW, dtype=np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, embeddings_NW.shape[1])
    path = directory / f"{what}.parquet"
    pq.write_table(pa.table({"id": pa.array(ids_N.astype(np.int64)), "embedding": column}), path)
    return str(path)


def _arrays(vectors: Any, what: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    if isinstance(vectors, tuple):
        ids, embeddings = vectors
        return np.asarray(ids), np.asarray(embeddings, dtype=np.float32)
    if hasattr(vectors, "to_numpy") and hasattr(vectors, "columns") and not isinstance(vectors, pa.Table):
        _check_columns(list(vectors.columns), what)
        return np.asarray(vectors["id"].to_numpy()), _stacked(vectors["embedding"].tolist(), what)
    if isinstance(vectors, pa.Table):
        _check_columns(vectors.column_names, what)
        return np.asarray(vectors["id"].to_numpy()), _stacked(vectors["embedding"].to_pylist(), what)
    raise SettingsError(
        f"{what}: got a {type(vectors).__name__}; want a path, an Arrow table or pandas frame with columns id and "
        "embedding, or a tuple (ids, embeddings) of arrays"
    )


def _check_columns(names: Sequence[str], what: str) -> None:
    missing = [name for name in ("id", "embedding") if name not in names]
    if missing:
        raise SettingsError(f"{what}: has the columns {list(names)}, without {missing[0]!r}; want id and embedding")


def _stacked(rows: Sequence[Any], what: str) -> npt.NDArray[np.float32]:
    lengths = {len(row) if row is not None else None for row in rows}
    if len(lengths) > 1 or None in lengths:
        raise SettingsError(f"{what}: embeddings have the lengths {sorted(map(str, lengths))}; want one length for all")
    return np.asarray(rows, dtype=np.float32)
