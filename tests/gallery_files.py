"""Small galleries on a disk, written by pyarrow as other systems write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

FloatArray = npt.NDArray[np.float32]


def lists(vectors_ND: FloatArray, kind: Any = None) -> pa.Array:
    """Rows of a matrix as an Arrow column of lists of float32, or of another list type."""
    kind = kind or pa.list_(pa.float32())
    return pa.array(list(vectors_ND.astype(kind.value_type.to_pandas_dtype())), kind)


def clustered(num_rows: int, dimension: int = 32, seed: int = 0) -> FloatArray:
    """Unit vectors [N, D] in 40 clusters, all on one side: what a model makes of items of 40 kinds."""
    rng = np.random.default_rng(seed)
    scales_D = (np.arange(dimension) + 1.0) ** -0.6
    centres = rng.standard_normal((40, dimension))
    content = (centres[rng.integers(0, 40, num_rows)] + 0.3 * rng.standard_normal((num_rows, dimension))) * scales_D
    vectors = content @ np.linalg.qr(rng.standard_normal((dimension, dimension)))[0] + 0.2 * rng.standard_normal(
        dimension
    )
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def write_objects(directory: Path, num_objects: int, **columns: Any) -> Path:
    """Equal parts of these columns as Parquet objects."""
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    for part, rows in enumerate(np.array_split(np.arange(table.num_rows), num_objects)):
        pq.write_table(table.slice(int(rows[0]), len(rows)), directory / f"part-{part:03d}.parquet")
    return directory
