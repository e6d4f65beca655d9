"""Lance data sets, and tables of LanceDB, which are Lance data sets in a directory.

    lance:DIR[#VERSION]      a data set
    lancedb:DIR#TABLE        DIR/TABLE.lance, as it is now

Owns: pinning a version, and reading rows of its fragments; rows that were deleted are left out by the library.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import pyarrow as pa

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SettingsError, SourceError
from fct_ray.kinds import VectorMetric


class LanceDataset:
    """A `ForeignTable` of one version of a data set."""

    metric: VectorMetric | None = None

    def __init__(self, uri: str, version: int | None) -> None:
        """Nothing is read yet; `version` None is the newest."""
        self.uri, self.version = uri, version

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "version": self.dataset.version}

    @cached_property
    def dataset(self) -> Any:
        """The version. Raises SourceError: there is no such data set or version."""
        import lance

        try:
            return lance.dataset(self.uri, version=self.version)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{self.uri}: no Lance data set{'' if self.version is None else f' of version {self.version}'} lies there "
                f"({error!s:.300}); check the place"
            ) from error

    @property
    def mark(self) -> str:
        """The version, and a hash of its files: another data set may lie there under the same numbers."""
        files = [file.path for one in self.dataset.get_fragments() for file in one.data_files()]
        digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
        return f"version {self.dataset.version} of {digest[:16]}"

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        table: pa.Table = self.dataset.head(rows)
        return table

    def parts(self, rows: int) -> list[Part]:
        """Spans of the rows of each fragment that were not deleted."""
        fragments = [(str(one.fragment_id), one.count_rows()) for one in self.dataset.get_fragments()]
        return parts_of(fragments, rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part, in the order of the fragment."""
        span = Span.of(part)
        fragment = self.dataset.get_fragment(int(span.file))
        scanned = self.dataset.scanner(
            fragments=[fragment], offset=span.start, limit=span.stop - span.start, scan_in_order=True
        )
        table: pa.Table = scanned.to_table()
        return table.combine_chunks()


def open_table(place: Place) -> LanceDataset:
    """The data set at a place.

    Raises:
        ImportError: Lance is not installed.
        SettingsError: no table is named, or a version that is no number.
        SourceError: there is no such data set.
    """
    if place.system == "lancedb":
        if place.table is None:
            raise SettingsError(f"{place}: names no table; want {place}#NAME")
        opened = LanceDataset(f"{place.address.rstrip('/')}/{place.table}.lance", None)
    else:
        if place.table is not None and not place.table.isdigit():
            raise SettingsError(f"{place}: version {place.table!r} is no number; want lance:DIR or lance:DIR#VERSION")
        opened = LanceDataset(place.address, None if place.table is None else int(place.table))
    _ = opened.dataset
    return opened
