"""A FAISS file as a table that a gallery is imported from, `faiss:FILE`.

    id           int64: FAISS's ids, those of IDMap, or the numbers of the rows
    embedding    the vectors, where the type of the index keeps them as they were put in

It is a `ForeignTable` of connectors, and here because faiss belongs to `index/`. Owns: its columns and its state. Local
disks only. Legend: N rows, D dimension.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SettingsError, SourceError
from fct_ray.index.kept_vectors import KeptVectors, size_and_time
from fct_ray.kinds import VectorMetric
from fct_ray.storage.vector_columns import vector_array

ID, EMBEDDING = "id", "embedding"


class FaissTable:
    """A `ForeignTable` of one index file."""

    def __init__(self, path: str) -> None:
        """Nothing is read yet."""
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @cached_property
    def kept(self) -> KeptVectors:
        """The file. Raises FormatError: it cannot be read, or keeps no vectors."""
        return KeptVectors(self.path)

    @property
    def mark(self) -> str:
        """Sizes and times of the file, and of the one that it reads its lists from."""
        return "; ".join(size_and_time(path) for path in (self.path, *self.kept.files))

    @property
    def metric(self) -> VectorMetric:
        """How the index compares."""
        return VectorMetric(self.kept.metric)

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        return self._rows(0, min(rows, self.kept.num_rows))

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows."""
        return parts_of([("", self.kept.num_rows)], rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part; the rest of the file is not read."""
        span = Span.of(part)
        return self._rows(span.start, span.stop)

    def _rows(self, start: int, stop: int) -> pa.Table:
        ids_N, vectors_ND = self.kept.rows(start, stop)
        return pa.table({ID: ids_N, EMBEDDING: vector_array(vectors_ND, "float32")})


def open_faiss(place: Place) -> FaissTable:
    """The index at a place.

    Raises:
        SettingsError: the place is no file on a disk.
        SourceError: there is no such file.
        FormatError: it is no index that keeps its vectors.
    """
    if "://" in place.address or place.table is not None:
        raise SettingsError(f"{place}: want faiss:FILE, a file on a disk that all workers see; copy it there first")
    if not Path(place.address).is_file():
        raise SourceError(f"{place}: there is no such file; check the path")
    table = FaissTable(str(Path(place.address).absolute()))
    _ = table.kept
    return table
