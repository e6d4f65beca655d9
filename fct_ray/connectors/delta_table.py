"""Delta Lake tables, `delta:DIR_OR_URI[#VERSION]`, through the library of delta-rs.

    live files of a version      by the library; superseded ones are left out
    deleted rows in them         deletion vectors, by the library, taken out here

Owns: pinning a version, and the columns of its rows: those that a file lacks are null, or its partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from fct_ray.connectors.parquet_rows import parquet_rows
from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SettingsError, SourceError
from fct_ray.kinds import VectorMetric

_DELETION_VECTORS = "deletionVectors"


class DeltaTable:
    """A `ForeignTable` of one version."""

    metric: VectorMetric | None = None

    def __init__(self, uri: str, version: int | None) -> None:
        """Nothing is read yet; `version` None is the newest."""
        self.uri, self.version = uri, version

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "version": self.table.version()}

    @cached_property
    def table(self) -> Any:
        """The version. Raises SourceError: there is no such table or version."""
        import deltalake
        from deltalake.exceptions import DeltaError

        try:
            return deltalake.DeltaTable(self.uri, version=self.version)
        except (DeltaError, OSError, ValueError) as error:
            raise SourceError(
                f"{self.uri}: no Delta table{'' if self.version is None else f' of version {self.version}'} lies there "
                f"({error!s:.300}); check the place"
            ) from error

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, with those that are in names of directories."""
        return pa.schema(self.table.schema().to_arrow())

    @cached_property
    def fragments(self) -> dict[str, Any]:
        """Its live files by path, in the order of their names. Raises SourceError: it uses what the library cannot read."""
        from deltalake.exceptions import DeltaError

        try:
            found = self._fragments_by_hand() if self._has_only_deletions else list(self._dataset().get_fragments())
        except (DeltaError, ValueError) as error:
            raise SourceError(
                f"{self.uri}: uses a feature of Delta that cannot be read in parts here ({error!s:.300}). Write what is "
                f"current as plain Parquet and adopt that: pyarrow.dataset.write_dataset(deltalake.DeltaTable({self.uri!r})"
                ".scan(), 'PLAIN_DIRECTORY', format='parquet')"
            ) from error
        return {one.path: one for one in sorted(found, key=lambda one: str(one.path))}

    @cached_property
    def kept_rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Which rows of a file are not deleted, for files of which some are."""
        if not self._has_only_deletions:
            return {}
        paths = {unquote(path): path for path in self.fragments}
        kept = {}
        for batch in pa.RecordBatchReader.from_stream(self.table.deletion_vectors()):
            for uri, mask in zip(batch["filepath"].to_pylist(), batch["selection_vector"], strict=True):
                path = next(own for plain, own in paths.items() if unquote(uri).endswith(f"/{plain}"))
                is_kept_N = np.ones(self.fragments[path].count_rows(), bool)
                is_kept_N[: len(mask.values)] = mask.values.to_numpy(zero_copy_only=False)
                kept[path] = np.flatnonzero(is_kept_N)
        return kept

    @property
    def mark(self) -> str:
        """The version, and which table: another one may lie there under the same numbers."""
        return f"version {self.table.version()} of {self.table.metadata().id}"

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        first = next(iter(self.parts(rows)), None)
        return self.schema.empty_table() if first is None else self.read(first)

    def parts(self, rows: int) -> list[Part]:
        """Spans of the rows of each file that are not deleted."""
        kept = self.kept_rows
        counts = [(path, len(kept[path]) if path in kept else one.count_rows()) for path, one in self.fragments.items()]
        return parts_of(counts, rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part."""
        span = Span.of(part)
        kept_N = self.kept_rows.get(span.file)
        if kept_N is None:
            return self._rows(span.file, span.start, span.stop)
        wanted_N = kept_N[span.start : span.stop]
        first = int(wanted_N[0])
        return self._rows(span.file, first, int(wanted_N[-1]) + 1).take(pa.array(wanted_N - first))

    def _rows(self, file: str, start: int, stop: int) -> pa.Table:
        """Rows of a file, by their places in it, with the columns that the table has now."""
        fragment = self.fragments[file]
        with fragment.filesystem.open_input_file(fragment.path) as source:
            found = parquet_rows(source, start, stop)
        partition = pads.get_partition_keys(fragment.partition_expression)
        columns = [
            found[field.name].cast(field.type)
            if field.name in found.column_names
            else pa.repeat(pa.scalar(partition.get(field.name), field.type), len(found))
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)

    @property
    def _has_only_deletions(self) -> bool:
        """Whether deletion vectors are all that keeps the library from making a data set of the table."""
        features: Sequence[str] = self.table.protocol().reader_features or ()
        return _DELETION_VECTORS in features and "columnMapping" not in features

    def _dataset(self) -> pads.Dataset:
        return self.table.to_pyarrow_dataset()

    def _fragments_by_hand(self) -> list[Any]:
        """What `to_pyarrow_dataset` does, which refuses tables that may have deletion vectors."""
        from deltalake.fs import DeltaStorageHandler

        inner = self.table._table  # noqa: SLF001 (as the library does it; there is no public way)
        handler = DeltaStorageHandler.from_table(inner, None, inner.get_add_file_sizes())
        system = pafs.PyFileSystem(handler)
        return [
            pads.ParquetFileFormat().make_fragment(file, filesystem=system, partition_expression=expression)
            for file, expression in inner.dataset_partitions(self.schema, None)
        ]


def open_table(place: Place) -> DeltaTable:
    """The table at a place. Raises ImportError, SettingsError, SourceError."""
    if place.table is not None and not place.table.isdigit():
        raise SettingsError(f"{place}: version {place.table!r} is no number; want delta:DIR or delta:DIR#VERSION")
    opened = DeltaTable(place.address, None if place.table is None else int(place.table))
    _ = opened.fragments
    return opened
