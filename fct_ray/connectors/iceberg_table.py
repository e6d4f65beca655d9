"""Iceberg tables, `iceberg:METADATA_JSON` or `iceberg:CATALOG#NAMESPACE.TABLE`, through PyIceberg.

Owns: pinning a snapshot, and reading its data files one by one; rows that were deleted are left out by the library. It reads
a data file whole, so that a worker keeps the one that it read last: the next part is likely of the same file. A catalog
is one of PyIceberg's own configuration (`~/.pyiceberg.yaml`, `PYICEBERG_CATALOG__...`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pyarrow as pa

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SourceError
from fct_ray.kinds import VectorMetric


class IcebergTable:
    """A `ForeignTable` of one snapshot."""

    metric: VectorMetric | None = None

    def __init__(self, place: Place, snapshot: int | None = None) -> None:
        """Nothing is read yet; `snapshot` None is the newest."""
        self.place, self._snapshot = place, snapshot
        self._last: tuple[str, pa.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "_snapshot": self.snapshot, "_last": None}

    @cached_property
    def table(self) -> Any:
        """The table. Raises SourceError: there is none."""
        from pyiceberg.catalog import load_catalog
        from pyiceberg.table import StaticTable

        address, name = self.place.address, self.place.table
        try:
            return StaticTable.from_metadata(address) if name is None else load_catalog(address).load_table(name)
        except Exception as error:  # its catalogs raise errors of many libraries
            raise SourceError(
                f"{self.place}: cannot be opened ({error!s:.300}); want iceberg:METADATA_JSON, or "
                "iceberg:CATALOG#NAMESPACE.TABLE with a catalog that PyIceberg is configured for"
            ) from error

    @property
    def snapshot(self) -> int:
        """The snapshot that is read. Raises SourceError: the table is empty."""
        if self._snapshot is not None:
            return self._snapshot
        current = self.table.current_snapshot()
        if current is None:
            raise SourceError(f"{self.place}: has no snapshot, so no rows; want at least one")
        return int(current.snapshot_id)

    @cached_property
    def tasks(self) -> dict[str, Any]:
        """One scan task for each data file, by path, in the order of the names."""
        tasks = {str(task.file.file_path): task for task in self._scan().plan_files()}
        return dict(sorted(tasks.items()))

    @property
    def mark(self) -> str:
        """The snapshot."""
        return f"snapshot {self.snapshot}"

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        table: pa.Table = self._scan(limit=rows).to_arrow()
        return table

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows of each data file; files with deleted rows are read to count what is left."""
        counts = [
            (path, len(self._file(path)) if task.delete_files else int(task.file.record_count))
            for path, task in self.tasks.items()
        ]
        return parts_of(counts, rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part; its data file is read whole."""
        span = Span.of(part)
        return self._file(span.file).slice(span.start, span.stop - span.start).combine_chunks()

    def _scan(self, limit: int | None = None) -> Any:
        return self.table.scan(snapshot_id=self.snapshot, limit=limit)

    def _file(self, path: str) -> pa.Table:
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan

        if self._last is not None and self._last[0] == path:
            return self._last[1]
        self._last = None  # before the next one is in memory
        scan = ArrowScan(self.table.metadata, self.table.io, self._scan().projection(), AlwaysTrue())
        table: pa.Table = scan.to_table([self.tasks[path]])
        self._last = path, table
        return table


def open_table(place: Place) -> IcebergTable:
    """The table at a place. Raises ImportError, SourceError."""
    opened = IcebergTable(place)
    _ = opened.snapshot
    return opened
