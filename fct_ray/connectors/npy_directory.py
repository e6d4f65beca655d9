"""Directories of .npy matrices with metadata in Parquet files beside them, as embedding-reader and clip-retrieval have them.

    npy:DIR           DIR/**/*.npy in the order of their names (numbers as numbers), metadata from DIR/**/*.parquet likewise
    npy:DIR#img_emb   the matrices of this subdirectory alone

Rows of the first matrix belong to rows of the first metadata file, and so on. Without metadata there is one column,
`embedding`: number the rows with `--columns.id row`. Owns: the header of a matrix, and reading its rows by their bytes alone,
on a disk and on S3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from fct_ray.connectors.parquet_rows import parquet_rows
from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SourceError
from fct_ray.kinds import VectorMetric

EMBEDDING = "embedding"
FLOATS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A .npy file, by its header."""

    path: str
    rows: int
    numbers: int
    dtype: np.dtype[Any]
    first_byte: int


class NpyDirectory:
    """A `ForeignTable` of matrices and their metadata."""

    metric: VectorMetric | None = None

    def __init__(self, address: str, subdirectory: str | None) -> None:
        """Nothing is read yet."""
        self.address, self.subdirectory = address, subdirectory

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "subdirectory": self.subdirectory}

    @cached_property
    def matrices(self) -> list[Matrix]:
        """All matrices, in the order of their names.

        Raises:
            SourceError: there are none, or one cannot be used; says which.
        """
        found = [self._matrix(path) for path in self._files(".npy") if self._is_wanted(path)]
        if not found:
            where = self.address if self.subdirectory is None else f"{self.address} below {self.subdirectory}"
            raise SourceError(f"{where}: has no .npy file; want matrices of shape [rows, numbers]")
        kinds = {(matrix.numbers, matrix.dtype) for matrix in found}
        if len(kinds) > 1:
            raise SourceError(
                f"{self.address}: matrices differ, (numbers in a row, type) are {sorted(map(str, kinds))}; want one kind: "
                f"name a subdirectory (npy:{self.address}#NAME)"
            )
        return found

    @cached_property
    def metadata(self) -> list[str]:
        """The metadata file of each matrix; none at all where there is no metadata.

        Raises:
            SourceError: numbers of files or of rows do not go together.
        """
        files = self._files(".parquet")
        if files and len(files) != len(self.matrices):
            raise SourceError(
                f"{self.address}: {len(self.matrices)} matrices and {len(files)} Parquet files; want one for each matrix"
            )
        for matrix, path in zip(self.matrices, files, strict=False):
            with self._open(path) as file:
                rows = pq.ParquetFile(file).metadata.num_rows
            if rows != matrix.rows:
                raise SourceError(f"{matrix.path} has {matrix.rows:,} rows and {path} {rows:,}; want as many")
        return files

    @property
    def mark(self) -> str:
        """Names, sizes and times or ETags of all files."""
        details = self._system.find(self._root, detail=True)
        return repr(
            sorted((path, info["size"], str(info.get("ETag", info.get("mtime")))) for path, info in details.items())
        )

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        return self._read(Span(file="0", start=0, stop=min(rows, self.matrices[0].rows)))

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows of each matrix."""
        _ = self.metadata  # checked before work starts
        return parts_of([(str(number), matrix.rows) for number, matrix in enumerate(self.matrices)], rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part, by their bytes alone."""
        return self._read(Span.of(part))

    def _read(self, span: Span) -> pa.Table:
        number = int(span.file)
        matrix = self.matrices[number]
        row_bytes = matrix.numbers * matrix.dtype.itemsize
        with self._open(matrix.path) as file:
            file.seek(matrix.first_byte + span.start * row_bytes)
            data = file.read((span.stop - span.start) * row_bytes)
        values = np.frombuffer(data, matrix.dtype).astype(matrix.dtype.newbyteorder("="), copy=False)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), matrix.numbers)
        if not self.metadata:
            return pa.table({EMBEDDING: column})
        with self._open(self.metadata[number]) as source:
            table = parquet_rows(source, span.start, span.stop)
        if EMBEDDING in table.column_names:
            raise SourceError(f"{self.metadata[number]}: has a column 'embedding' beside the matrix; take it out")
        return table.append_column(EMBEDDING, column)

    def _matrix(self, path: str) -> Matrix:
        with self._open(path) as file:
            try:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, is_fortran, dtype = read(file)
            except ValueError as error:
                raise SourceError(
                    f"{path}: not a readable .npy file ({error}); write it again with numpy.save"
                ) from error
            if len(shape) != 2 or dtype.name not in FLOATS or is_fortran:
                raise SourceError(
                    f"{path}: is {dtype} of shape {shape}{' in Fortran order' if is_fortran else ''}; want float16, "
                    "float32 or float64 of shape [rows, numbers] in C order: numpy.save(path, numpy.ascontiguousarray(m))"
                )
            return Matrix(path=path, rows=shape[0], numbers=shape[1], dtype=dtype, first_byte=file.tell())

    @cached_property
    def _system(self) -> Any:
        return fsspec.core.url_to_fs(self.address)[0]

    @property
    def _root(self) -> str:
        return str(fsspec.core.url_to_fs(self.address)[1])

    def _open(self, path: str) -> BinaryIO:
        file: BinaryIO = self._system.open(path, "rb")
        return file

    def _files(self, suffix: str) -> list[str]:
        paths = [path for path in self._system.find(self._root) if path.endswith(suffix)]
        return sorted(paths, key=_natural)

    def _is_wanted(self, path: str) -> bool:
        return self.subdirectory is None or f"/{self.subdirectory}/" in path.removeprefix(self._root)


def open_table(place: Place) -> NpyDirectory:
    """The matrices at a place. Raises SourceError: there are none, or they cannot be used."""
    table = NpyDirectory(place.address, place.table)
    _ = table.metadata
    return table


def _natural(path: str) -> list[tuple[int, str]]:
    """Numbers in names as numbers, so that part 10 comes after part 9."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path)]
