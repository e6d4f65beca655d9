"""Delta Lake tables, `delta:DIR_OR_URI[#VERSION]`, through the library of delta-rs.

Owns: pinning a version, and reading rows of its live files; superseded files and deleted rows are left out by the library.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pyarrow as pa

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SettingsError, SourceError
from fct_ray.kinds import VectorMetric


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
    def fragments(self) -> dict[str, Any]:
        """Its live files by path, in the order of their names. Raises SourceError: it uses what the library cannot read."""
        from deltalake.exceptions import DeltaError

        try:
            dataset = self.table.to_pyarrow_dataset()
        except (DeltaError, ValueError) as error:
            raise SourceError(
                f"{self.uri}: uses a feature of Delta that cannot be read here ({error!s:.300}). Where rows were deleted by "
                "deletion vectors, purge them first: REORG TABLE ... APPLY (PURGE)"
            ) from error
        return {one.path: one for one in sorted(dataset.get_fragments(), key=lambda one: str(one.path))}

    @property
    def mark(self) -> str:
        """The version."""
        return f"version {self.table.version()}"

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        _ = self.fragments
        table: pa.Table = self.table.to_pyarrow_dataset().head(rows)
        return table

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows of each file."""
        return parts_of([(path, one.count_rows()) for path, one in self.fragments.items()], rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part; only the row groups that have some are read."""
        span = Span.of(part)
        fragment, before, groups = self.fragments[span.file], 0, []
        first = None
        for group in fragment.row_groups:
            if before + group.num_rows > span.start and before < span.stop:
                groups.append(group.id)
                first = before if first is None else first
            before += group.num_rows
        schema = self.table.to_pyarrow_dataset().schema
        table: pa.Table = fragment.subset(row_group_ids=groups).to_table(schema=schema)
        return table.slice(span.start - (first or 0), span.stop - span.start).combine_chunks()


def open_table(place: Place) -> DeltaTable:
    """The table at a place. Raises ImportError, SettingsError, SourceError."""
    if place.table is not None and not place.table.isdigit():
        raise SettingsError(f"{place}: version {place.table!r} is no number; want delta:DIR or delta:DIR#VERSION")
    opened = DeltaTable(place.address, None if place.table is None else int(place.table))
    _ = opened.fragments
    return opened
