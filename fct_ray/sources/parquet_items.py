"""Raw items in Parquet: `parquet:URI_OR_GLOB?image=COLUMN` or `?text=COLUMN`, with `&id=COLUMN&label=COLUMN&limit=N`.

Images are encoded (JPEG, PNG, ...) in a binary column, or in a struct with a field `bytes` as Hugging Face writes
them. `id` (default "id") is a column of integers or of keys (text, UUIDs, bytes), unique over all files. `label` (default
"label", if there is one) is an integer column, or a string column whose values are numbered in sorted order and carried as
`label_name`. A glob may use `*` and `[...]`, not `?`, which begins the options. Files and directories whose names begin with
`_` or `.` are left out.

Owns: ids, labels, reading. The driver reads ids and labels when it lists; a worker reads those of its own rows, with the
values, by row group. The row groups used last are kept: reading in order touches each once, reading at random is slow in
large files. Legend: N items, R row groups of one object.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fct_ray.errors import SettingsError, SourceError
from fct_ray.key_types import UserIds, key_type_of, plain, texts
from fct_ray.sources.decoding import decode_all
from fct_ray.sources.files import ListedFile, Place, list_files, open_place
from fct_ray.sources.item_keys import hashed, ids_and_keys, keys_in
from fct_ray.sources.items import Items, Keys
from fct_ray.sources.listing import IntArray, ListedSource, Listing, whole_objects
from fct_ray.sources.registry import int_option

OPTIONS = ("image", "text", "id", "label", "limit")
CACHED_BYTES = 512 << 20
"""Row groups are kept up to this many bytes per reader; always at least one."""
CACHED_FOOTERS = 64

GroupKey = tuple[ListedFile, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetItems:
    """Lists and reads rows of Parquet files: one column, with ids and labels."""

    spec: str
    location: str
    column: str
    is_image: bool
    id_column: str
    label_column: str | None
    """None: "label", if the first file has it."""
    limit: int | None
    ids_are_paths: bool = False
    groups: OrderedDict[GroupKey, pa.Table] = field(default_factory=OrderedDict, repr=False, compare=False)
    """Row groups that were read; the one used last is last."""
    footers: OrderedDict[ListedFile, pq.FileMetaData] = field(default_factory=OrderedDict, repr=False, compare=False)

    @property
    def content(self) -> Literal["image", "text"]:
        """What the column holds."""
        return "image" if self.is_image else "text"

    def list_items(self) -> tuple[Listing, Keys]:
        """All rows of the files that are there now, in the order of sorted paths.

        Raises:
            SourceError: no file, a column is missing or of a wrong type, or ids are null or repeat.
        """
        place, files = list_files(self.location, (".parquet",), may_be_glob=True, hidden=(".", "_"))
        label, tables = self.label_column, list[pa.Table]()
        for number, file in enumerate(files):
            with place.open(file) as opened:
                parquet = pq.ParquetFile(opened, pre_buffer=True)
                schema = parquet.schema_arrow
                if number == 0 and label is None and "label" in schema.names:
                    label = "label"
                _check_columns(schema, place.uri_of(file), self.column, self.id_column, label, is_image=self.is_image)
                tables.append(parquet.read(columns=sorted({self.id_column, label or self.id_column})))
        uris = [place.uri_of(file) for file in files]
        ids_N, keys = ids_and_keys([table[self.id_column] for table in tables], self.id_column, uris, place.uri)
        labels_N, names = _labels([table[label] for table in tables], label, place.uri) if label else (None, None)
        sizes, marks = [file.bytes for file in files], [file.mark for file in files]
        listing = Listing(
            source=ListedSource(spec=self.spec, uri=place.uri, root=place.root, label_names=names),
            spans=whole_objects([file.path for file in files], sizes, marks, [len(table) for table in tables]),
        )
        whole = Keys(ids_N=ids_N, labels_N=labels_N, keys=keys)
        if self.limit is None or self.limit >= listing.num_items:
            return listing, whole
        first = np.arange(self.limit)
        return listing.take(first), whole.take(first)

    def keys(self, listing: Listing) -> Keys:
        """Ids and labels, read from the objects. Raises SourceError."""
        place, columns = open_place(listing.source.uri, listing.source.root), self._key_columns(listing)
        ids_N, found = np.empty(listing.num_items, np.int64), _FoundKeys()
        labels_N = None if listing.source.label_names is None else np.empty(listing.num_items, np.int64)
        for file, positions_N, rows_N in _rows_of_objects(listing):
            with place.open(file) as opened:
                rows = pq.ParquetFile(opened, pre_buffer=True).read(columns=columns).take(pa.array(rows_N))
            ids_N[positions_N] = found.add(positions_N, rows[self.id_column])
            if labels_N is not None:
                labels_N[positions_N] = _numbered(rows[self._label(listing)], listing.source.label_names)
        return Keys(ids_N=ids_N, labels_N=labels_N, keys=found.in_order())

    def read(self, listing: Listing) -> Items:
        """Decoded images (uint8 RGB, see `decoding`) or texts, in the order of the listing.

        Raises:
            SourceError: a value is null or cannot be decoded, or the object was changed since it was listed; the message
                has its file and id.
        """
        place, bytes_read = open_place(listing.source.uri, listing.source.root), 0
        values: list[Any] = [None] * listing.num_items
        names = [""] * listing.num_items
        ids_N, found = np.empty(listing.num_items, np.int64), _FoundKeys()
        labels_N = None if listing.source.label_names is None else np.empty(listing.num_items, np.int64)
        for file, positions_N, rows_N in _rows_of_objects(listing):
            for wanted_N, rows, num_bytes in self._rows(
                place, file, rows_N, [self.column, *self._key_columns(listing)]
            ):
                at_N, bytes_read = positions_N[wanted_N], bytes_read + num_bytes
                ids_N[at_N] = found.add(at_N, rows[self.id_column])
                if labels_N is not None:
                    labels_N[at_N] = _numbered(rows[self._label(listing)], listing.source.label_names)
                ids = texts(plain(rows[self.id_column]))
                for at, value, name in zip(at_N.tolist(), rows[self.column].to_pylist(), ids, strict=True):
                    values[at] = value["bytes"] if isinstance(value, dict) else value
                    names[at] = f"{place.uri_of(file)} id {name}"
        for value, name in zip(values, names, strict=True):
            if value is None:
                raise SourceError(f"{name} has no {self.column} (null); fill it or leave the row out")
        content: Any = values
        if self.is_image:
            content, _ = decode_all([partial(_same, value) for value in values], names)
        carried: dict[str, object] = {}
        if labels_N is not None:
            carried["label"] = labels_N
            if listing.source.label_names:
                carried["label_name"] = [listing.source.label_names[label] for label in labels_N]
        columns: dict[str, Any] = {self.content: content}
        return Items(ids_N=ids_N, columns=columns, carried=carried, bytes_read=bytes_read, keys=found.in_order())

    def _label(self, listing: Listing) -> str | None:
        return None if listing.source.label_names is None else self.label_column or "label"

    def _key_columns(self, listing: Listing) -> list[str]:
        return sorted({self.id_column, self._label(listing) or self.id_column})

    def _rows(
        self, place: Place, file: ListedFile, rows_N: IntArray, columns: Sequence[str]
    ) -> Iterator[tuple[IntArray, pa.Table, int]]:
        """Some rows of an object, row group by row group: which of `rows_N`, their values, and how many bytes were read."""
        with ExitStack() as stack:
            opened = cache(
                lambda: stack.enter_context(place.open(file))
            )  # at most once, and only if something is missing
            footer = self._footer(file, opened)
            lengths = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
            starts_R = np.cumsum([0, *lengths], dtype=np.int64)
            groups_N = np.searchsorted(starts_R, rows_N, side="right") - 1
            for group in np.unique(groups_N).tolist():
                wanted_N = np.flatnonzero(groups_N == group)
                table, num_bytes = self._group(file, group, columns, footer, opened)
                yield wanted_N, table.take(pa.array(rows_N[wanted_N] - starts_R[group])), num_bytes

    def _footer(self, file: ListedFile, opened: Callable[[], Any]) -> pq.FileMetaData:
        if file not in self.footers:
            self.footers[file] = pq.ParquetFile(opened()).metadata
            if len(self.footers) > CACHED_FOOTERS:
                self.footers.popitem(last=False)
        return self.footers[file]

    def _group(
        self, file: ListedFile, group: int, columns: Sequence[str], footer: pq.FileMetaData, opened: Callable[[], Any]
    ) -> tuple[pa.Table, int]:
        """Some columns of a row group, and how many bytes were read to get them now."""
        kept, key = self.groups, (file, group)
        if key in kept:
            kept.move_to_end(key)
            return kept[key], 0
        parquet = pq.ParquetFile(opened(), metadata=footer, pre_buffer=True)
        table = kept[key] = parquet.read_row_group(group, columns=list(columns))
        while len(kept) > 1 and sum(other.nbytes for other in kept.values()) > CACHED_BYTES:
            kept.popitem(last=False)
        stored = footer.row_group(group)
        sizes = [stored.column(index) for index in range(stored.num_columns)]
        own = (size for size in sizes if size.path_in_schema.split(".")[0] in columns)
        return table, sum(size.total_compressed_size for size in own)


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> ParquetItems:
    """The rows of the files at `location`.

    Raises:
        SettingsError: no location, or not exactly one of `image` and `text`.
    """
    if not location or ("image" in options) == ("text" in options):
        raise SettingsError(
            f"source {spec!r}: want a location and one of image and text, e.g. "
            "parquet:s3://bucket/items/*.parquet?image=jpeg"
        )
    is_image = "image" in options
    return ParquetItems(
        spec=spec,
        location=location,
        column=options["image" if is_image else "text"],
        is_image=is_image,
        id_column=options.get("id", "id"),
        label_column=options.get("label"),
        limit=int_option(spec, options, "limit", None),
    )


def _rows_of_objects(listing: Listing) -> Iterator[tuple[ListedFile, IntArray, IntArray]]:
    """For each object of a listing: the object, the positions of the items that it has, and their rows in it."""
    spans_N, rows_N = listing.rows()
    columns = (listing.spans[name].to_pylist() for name in ("path", "bytes", "mark"))
    files = [ListedFile(path=path, bytes=size, mark=mark) for path, size, mark in zip(*columns, strict=True)]
    objects = {file: number for number, file in enumerate(dict.fromkeys(files))}
    object_S = np.fromiter((objects[file] for file in files), np.int64, len(files))
    objects_N = object_S[spans_N]
    by_object_N = np.argsort(objects_N, kind="stable")
    stops_O = np.searchsorted(objects_N[by_object_N], np.arange(len(objects)), side="right")
    for file, start, stop in zip(objects, [0, *stops_O[:-1]], stops_O, strict=True):
        positions_N = by_object_N[start:stop]
        yield file, positions_N, rows_N[positions_N]


def _same(data: bytes) -> bytes:
    return data


def _check_columns(
    schema: pa.Schema, uri: str, column: str, id_column: str, label: str | None, *, is_image: bool
) -> None:
    for name in (column, id_column, label):
        if name is not None and name not in schema.names:
            raise SourceError(f"{uri} has no column {name!r}; it has {', '.join(schema.names)}: name one of them")
    kind = schema.field(column).type
    if is_image and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    fits = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not is_image:
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not fits:
        wanted = "binary (encoded images) or a struct with binary `bytes`" if is_image else "string"
        raise SourceError(f"{uri}: column {column!r} is {kind}; wanted {wanted}: write it so, or name another column")
    id_type = schema.field(id_column).type
    if not (pa.types.is_integer(id_type) or key_type_of(id_type) is not None):
        raise SourceError(
            f"{uri}: id column {id_column!r} is {id_type}; wanted integers, strings, UUIDs or bytes: number the rows, or "
            "name another column"
        )


class _FoundKeys:
    """Keys of a listing's items, which are found object by object, by position."""

    def __init__(self) -> None:
        self.positions: list[IntArray] = []
        self.parts: list[UserIds] = []

    def add(self, positions_N: IntArray, column: Any) -> IntArray:
        """The ids of the items at these positions, from a column of ids."""
        keys = keys_in(column)
        if keys is None:
            return np.asarray(column.cast(pa.int64()).to_numpy())
        self.positions.append(positions_N)
        self.parts.append(keys)
        return hashed(keys)

    def in_order(self) -> UserIds | None:
        """All keys, in the order of positions; None where ids are integers."""
        if not self.parts:
            return None
        return pa.concat_arrays(self.parts).take(pa.array(np.argsort(np.concatenate(self.positions))))


def _labels(columns: Sequence[pa.ChunkedArray[Any]], name: str, uri: str) -> tuple[IntArray, tuple[str, ...]]:
    """The labels as numbers, and the name of each number; no names where labels are numbers already."""
    kinds = {column.type for column in columns}
    if len(kinds) > 1:
        seen = ", ".join(sorted(map(str, kinds)))
        raise SourceError(f"{uri}: labels in {name!r} have several types ({seen}); write all files with one type")
    column = pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=kinds.pop())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise SourceError(f"{uri}: {column.null_count} labels in {name!r} are null; fill them or name another column")
    if pa.types.is_integer(column.type):
        return _numbered(column, ()), ()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise SourceError(f"{uri}: label column {name!r} is {column.type}; wanted integers or strings")
    names = tuple(sorted(column.unique().to_pylist()))
    return _numbered(column, names), names


def _numbered(column: pa.ChunkedArray[Any], names: Sequence[str] | None) -> IntArray:
    """Labels as numbers: places among the names, or the numbers themselves where there are no names."""
    if names:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        column = pc.index_in(column.cast(kind), value_set=pa.array(names, kind))
    return np.array(column.cast(pa.int64()).to_numpy())
