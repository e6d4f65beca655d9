"""The footers of the Parquet objects of a gallery that somebody else wrote: rows, row groups, bytes, types.

Owns: opening an object by ranges, how many footers are read, and what an unreadable one becomes. Reads no values, writes
nothing. Sizes are in bytes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median_low

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FormatError, StoreError
from fct_ray.gallery_facts import ObjectFacts
from fct_ray.storage import objects, parquet_tables

MAX_FOOTERS = 2_000
"""Where there are more objects, a seeded sample is looked at: each footer on S3 is two requests."""
_THREADS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroup:
    """Rows that lie together in an object."""

    object: int
    """Position of the object among those whose footers were read."""
    group: int
    first_row: int
    num_rows: int
    num_bytes: int
    """What all columns take, unpacked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFooter:
    """What the footer of one object says."""

    uri: str
    num_bytes: int
    num_rows: int
    schema: pa.Schema
    groups: tuple[RowGroup, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryFooters:
    """The footers of a gallery's objects, or of a sample of these."""

    num_objects: int
    footers: tuple[ObjectFooter, ...]
    """In the order of the objects' names."""
    unreadable: tuple[str, ...]
    """One sentence for each object without a readable footer."""

    @property
    def with_rows(self) -> tuple[ObjectFooter, ...]:
        """Those that have rows."""
        return tuple(footer for footer in self.footers if footer.num_rows)

    def facts(self, other_schema: int = 0) -> ObjectFacts:
        """Sizes; rows and bytes are scaled up where not all footers were read."""
        rows = [footer.num_rows for footer in self.footers] or [0]
        groups = [group for footer in self.footers for group in footer.groups]
        looked_at = len(self.footers) + len(self.unreadable)
        scale = self.num_objects / looked_at if looked_at else 1.0
        return ObjectFacts(
            num_objects=self.num_objects,
            num_read=looked_at,
            num_rows=round(sum(rows) * scale),
            num_bytes=round(sum(footer.num_bytes for footer in self.footers) * scale),
            rows_min=min(rows),
            rows_median=median_low(rows),
            rows_max=max(rows),
            num_empty=round(sum(not footer.num_rows for footer in self.footers) * scale),
            num_groups=round(len(groups) * scale),
            group_rows_max=max((group.num_rows for group in groups), default=0),
            group_bytes_max=max((group.num_bytes for group in groups), default=0),
            unreadable=len(self.unreadable),
            other_schema=other_schema,
        )


def read_footers(uris: Sequence[str], seed: int) -> GalleryFooters:
    """The footers of these objects, at most MAX_FOOTERS of them, drawn by `seed`."""
    chosen = sorted(range(len(uris)))
    if len(uris) > MAX_FOOTERS:
        chosen = sorted(random.Random(seed).sample(chosen, MAX_FOOTERS))  # noqa: S311 (a sample, no secret)
    with ThreadPoolExecutor(_THREADS) as threads:
        read = list(threads.map(_footer_or_problem, [uris[place] for place in chosen]))
    found = [footer for footer in read if isinstance(footer, ObjectFooter)]
    return GalleryFooters(
        num_objects=len(uris),
        footers=tuple(_numbered(footer, place) for place, footer in enumerate(found)),
        unreadable=tuple(problem for problem in read if isinstance(problem, str)),
    )


def open_object(uri: str) -> pa.NativeFile:
    """An object whose ranges are read when they are asked for. Raises StoreError."""
    try:
        if objects.is_s3(uri):
            filesystem, path = objects.arrow_filesystem(uri)
            return filesystem.open_input_file(path)
        return pa.OSFile(objects.absolute(uri))
    except OSError as error:
        raise StoreError(
            f"{uri}: cannot be read: {error.strerror or error}. Check the path and its permissions"
        ) from error


def _footer_or_problem(uri: str) -> ObjectFooter | str:
    try:
        with open_object(uri) as source:
            file = parquet_tables.open_parquet(source, uri)
            return ObjectFooter(
                uri=uri,
                num_bytes=source.size(),
                num_rows=file.metadata.num_rows,
                schema=file.schema_arrow,
                groups=tuple(_groups(file)),
            )
    except FormatError as error:
        return str(error)


def _groups(file: pq.ParquetFile) -> list[RowGroup]:
    groups, first_row = [], 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)  # never its columns: see parquet_tables
        rows, size = group.num_rows, group.total_byte_size
        groups.append(RowGroup(object=0, group=number, first_row=first_row, num_rows=rows, num_bytes=size))
        first_row += rows
    return groups


def _numbered(footer: ObjectFooter, place: int) -> ObjectFooter:
    return replace(footer, groups=tuple(replace(group, object=place) for group in footer.groups))
