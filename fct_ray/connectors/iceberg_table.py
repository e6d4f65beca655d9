"""Iceberg tables, `iceberg:METADATA_JSON` or `iceberg:CATALOG#NAMESPACE.TABLE`, through PyIceberg.

    plain data files                         spans of rows, page by page
    files with deleted rows, with structs,   whole, by the library, which leaves deleted rows out; a worker keeps the one
    or that lack a column                    that it read last, since the next part is likely of the same file

Owns: pinning a snapshot, and which of these a file is. A catalog is one that PyIceberg is configured for
(`~/.pyiceberg.yaml`, `PYICEBERG_CATALOG__...`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.connectors.parquet_rows import parquet_rows
from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SourceError
from fct_ray.kinds import VectorMetric

_FIELD_ID = b"PARQUET:field_id"
"""Names of columns may change in Iceberg; their numbers do not."""


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

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the snapshot."""
        return pa.schema([field.remove_metadata() for field in self._scan().projection().as_arrow()])

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        first = next(iter(self.parts(rows)), None)
        return self.schema.empty_table() if first is None else self.read(first)

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows of each data file; files with deleted rows are read to count what is left."""
        counts = [
            (path, len(self._whole_file(path)) if task.delete_files else int(task.file.record_count))
            for path, task in self.tasks.items()
        ]
        return parts_of(counts, rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part."""
        span = Span.of(part)
        names = self._names_in(span.file)
        if names is None:
            return self._whole_file(span.file).slice(span.start, span.stop - span.start).combine_chunks()
        with self.table.io.new_input(span.file).open() as source:
            return (
                parquet_rows(source, span.start, span.stop)
                .select(names)
                .rename_columns(self.schema.names)
                .cast(self.schema)
            )

    def _scan(self) -> Any:
        return self.table.scan(snapshot_id=self.snapshot)

    def _names_in(self, path: str) -> list[str] | None:
        """What the columns of the snapshot are called in a data file, by their numbers; None: the library must read it."""
        task, fields = self.tasks[path], self._scan().projection().fields
        has_structs = any(pa.types.is_struct(field.type) or pa.types.is_map(field.type) for field in self.schema)
        if task.delete_files or has_structs or task.file.file_format != "PARQUET":
            return None
        with self.table.io.new_input(path).open() as source:
            there = {(field.metadata or {}).get(_FIELD_ID): field.name for field in pq.read_schema(source)}
        names = [there.get(str(field.field_id).encode()) for field in fields]
        return None if None in names else [str(name) for name in names]

    def _whole_file(self, path: str) -> pa.Table:
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan

        if self._last is not None and self._last[0] == path:
            return self._last[1]
        self._last = None  # before the next one is in memory
        scan = ArrowScan(self.table.metadata, self.table.io, self._scan().projection(), AlwaysTrue())
        table: pa.Table = scan.to_table([self.tasks[path]]).cast(self.schema)
        self._last = path, table
        return table


def open_table(place: Place) -> IcebergTable:
    """The table at a place. Raises ImportError, SourceError."""
    opened = IcebergTable(place)
    _ = opened.snapshot
    return opened
