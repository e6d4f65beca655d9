"""Which items a run reads, and where each of them lies: made once by the driver, then kept with the run and sent to workers.

    path              bytes  mark             first_row  num_rows
    cats/a.png        1,234  "9e107d9d37..."          0         1     a photo: an object of one item
    part-7.parquet   88,123  "e4d909c290..."          0    50,000     rows of a Parquet object
    part-9.parquet   90,001  "2ae35d8a41..."     20,000        17     some rows of another one

Owns: listings as values: choosing items, comparing two listings, and their form as Arrow tables. Reads no object. Legend:
N items, S spans (rows of the table above), O objects. Positions count items, in the order of the listing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

IntArray = npt.NDArray[np.int64]
SPANS = pa.schema(
    [
        ("path", pa.large_string()),
        ("bytes", pa.int64()),
        ("mark", pa.large_string()),
        ("first_row", pa.int64()),
        ("num_rows", pa.int64()),
    ]
)
_HEAD = b"fct_ray.listing"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSource:
    """What is the same for all items of a listing."""

    spec: str
    """The source, as its user named it."""
    uri: str = ""
    """What the paths are relative to, in the user's words; for messages and the column `uri`."""
    root: str = ""
    """The same in the file system's words: absolute, so that it means the same on every machine."""
    label_names: tuple[str, ...] | None = None
    """The name of each label; empty where labels are numbers already; None without labels."""
    left_out: tuple[tuple[str, int], ...] = ()
    """How many files lay there that are no items, by suffix; for reports, no part of what the items are."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Some items of a source, in order, each by the object that has it and by its row there."""

    source: ListedSource
    spans: pa.Table
    """Rows [first_row, first_row + num_rows) of the object at `path`, in the schema `SPANS`; `mark` and `bytes` say which
    version of the object was seen."""

    @cached_property
    def starts_S(self) -> IntArray:  # noqa: N802 (its shape)
        """The position of the first item of every span, and last the number of items: S + 1 values."""
        return np.concatenate([[0], np.cumsum(self.spans["num_rows"].to_numpy())]).astype(np.int64)

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return int(self.starts_S[-1])

    def rows(self) -> tuple[IntArray, IntArray]:
        """For every item: its span [N], and its row in that span's object [N]."""
        return self._rows(np.arange(self.num_items, dtype=np.int64))

    def _rows(self, positions_N: IntArray) -> tuple[IntArray, IntArray]:
        spans_N = np.searchsorted(self.starts_S, positions_N, side="right") - 1
        return spans_N, self.spans["first_row"].to_numpy()[spans_N] + positions_N - self.starts_S[spans_N]

    def take(self, positions_N: IntArray) -> Listing:
        """The items at these positions, in this order."""
        spans_N, rows_N = self._rows(np.asarray(positions_N, dtype=np.int64))
        goes_on_N = (np.diff(spans_N, prepend=-1) == 0) & (np.diff(rows_N, prepend=-1) == 1)
        begins_S = np.flatnonzero(~goes_on_N)
        chosen = self.spans.select(["path", "bytes", "mark"]).take(pa.array(spans_N[begins_S]))
        lengths_S = np.diff(begins_S, append=len(rows_N))
        chosen = chosen.append_column("first_row", pa.array(rows_N[begins_S]))
        return replace(self, spans=chosen.append_column("num_rows", pa.array(lengths_S)).cast(SPANS))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over items, objects and marks: two listings with the same one give the same items with the same content."""
        digest = hashlib.sha256(json.dumps(self.source.label_names).encode())
        for column in self.spans.columns:
            values = column.combine_chunks()
            if pa.types.is_large_string(values.type):
                digest.update(np.asarray(pc.binary_length(values)).tobytes())
                digest.update("".join(values.to_pylist()).encode())
            else:
                digest.update(np.asarray(values, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def missing_from(self, other: Listing) -> list[str]:
        """Paths, sorted, of objects that the other listing does not have."""
        found_S = self._found_in(other)
        return _sorted_paths(self.spans.filter(pc.is_null(found_S)))

    def changed_in(self, other: Listing) -> list[str]:
        """Paths, sorted, of objects that the other listing has with another mark."""
        found_S = self._found_in(other)
        return _sorted_paths(self.spans.filter(pc.not_equal(self.spans["mark"], other.spans["mark"].take(found_S))))

    def with_marks_of(self, other: Listing) -> Listing:
        """The same items, with the objects' versions as the other listing has them, where it has them."""
        found_S, spans = self._found_in(other), self.spans
        for name in ("bytes", "mark"):
            newer = pc.coalesce(other.spans[name].take(found_S), self.spans[name])
            spans = spans.set_column(spans.schema.get_field_index(name), SPANS.field(name), newer)
        return replace(self, spans=spans)

    def _found_in(self, other: Listing) -> pa.ChunkedArray:
        """For each span, a span of the other listing with the same path, or null."""
        return pc.index_in(self.spans["path"], value_set=other.spans["path"].combine_chunks())

    def to_table(self) -> pa.Table:
        """All of it as one Arrow table, whose metadata has what is the same for all items."""
        return self.spans.replace_schema_metadata({_HEAD: json.dumps(asdict(self.source)).encode()})


def listing_of(table: pa.Table) -> Listing:
    """The inverse of `Listing.to_table`; further columns are left out."""
    return Listing(source=listed_source(table.schema), spans=table.select(SPANS.names).replace_schema_metadata())


def listed_source(schema: pa.Schema) -> ListedSource:
    """What a table that `Listing.to_table` made says of all its items."""
    head = json.loads(schema.metadata[_HEAD])
    names, left_out = head.pop("label_names"), head.pop("left_out", ())
    return ListedSource(
        **head,
        label_names=None if names is None else tuple(names),
        left_out=tuple((suffix, number) for suffix, number in left_out),
    )


def spans_to_bytes(listing: Listing) -> bytes:
    """The spans of a small part of a listing, for a task."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, SPANS, options=options) as writer:
        writer.write_table(listing.spans)
    return bytes(sink.getvalue())


def spans_from_bytes(source: ListedSource, data: bytes) -> Listing:
    """The part of a listing of `source` that `spans_to_bytes` made bytes of."""
    return Listing(source=source, spans=pa.ipc.open_stream(data).read_all())


def whole_objects(paths: list[str], sizes: list[int], marks: list[str], num_rows: list[int]) -> pa.Table:
    """Spans of all rows of these objects."""
    columns = [paths, sizes, marks, [0] * len(paths), num_rows]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SPANS, strict=True)], schema=SPANS)


def rows_of_one_object(rows_N: IntArray) -> pa.Table:
    """Spans of these rows, in this order, of a data set that is one object and never changes."""
    begins_S = np.flatnonzero(np.diff(rows_N, prepend=-2) != 1)
    nothing, lengths_S = [""] * len(begins_S), np.diff(begins_S, append=len(rows_N))
    columns = [nothing, np.zeros_like(begins_S), nothing, rows_N[begins_S], lengths_S]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SPANS, strict=True)], schema=SPANS)


def _sorted_paths(spans: pa.Table) -> list[str]:
    return sorted(set(spans["path"].to_pylist()))
