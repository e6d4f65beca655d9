"""Raw items in Parquet: `parquet:URI_OR_GLOB?image=COLUMN` or `?text=COLUMN`, with `&id=COLUMN&label=COLUMN&limit=N`.

Images are encoded (JPEG, PNG, ...) in a binary column, or in a struct with a field `bytes` as Hugging Face writes
them. `id` (default "id") is an integer column, unique over all files. `label` (default "label", if there is one) is an
integer column, or a string column whose values are numbered in sorted order and carried as `label_name`. A glob may use
`*` and `[...]`, not `?`, which begins the options.

Owns: which row lies where, ids, labels, reading. Ids and labels are read on opening; items are read by row group, and
the row groups used last are kept: reading in order touches each once, reading at random is slow for large files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources.decoding import decode_all
from fct_ray.sources.files import Files, list_files, reading
from fct_ray.sources.items import IntArray, Items
from fct_ray.sources.registry import int_option

OPTIONS = ("image", "text", "id", "label", "limit")
CACHED_BYTES = 512 << 20
"""Row groups are kept up to this many bytes per source; always at least one."""


@dataclass(frozen=True, kw_only=True)
class ParquetItems:
    """Rows of one column of Parquet files."""

    spec: str
    files: Files
    column: str
    is_image: bool
    ids_N: IntArray
    labels_N: IntArray | None
    label_names: Sequence[str]
    """The name of each label where labels are strings, else empty."""
    group_starts_R: IntArray
    """Position of the first row of each row group, over all files."""
    groups: Sequence[tuple[int, int]]
    """(file, row group in it) of each row group."""
    cache: OrderedDict[int, pa.ChunkedArray[Any]] = field(default_factory=OrderedDict, repr=False, compare=False)

    @property
    def num_items(self) -> int:
        """How many rows there are."""
        return len(self.ids_N)

    def read(self, positions_N: IntArray) -> Items:
        """Decoded images (uint8 RGB, see `decoding`) or texts, in the order of the positions.

        Raises:
            SourceError: a value is null or cannot be decoded; the message has its file and id.
        """
        values, bytes_read = self._values(np.asarray(positions_N, np.int64))
        names = [self._name(position) for position in positions_N]
        for value, name in zip(values, names, strict=True):
            if value is None:
                raise SourceError(f"{name} has no {self.column} (null); fill it or leave the row out")
        content: Any = values
        if self.is_image:
            content, _ = decode_all([partial(_same, value) for value in values], names)
        carried: dict[str, object] = {}
        if self.labels_N is not None:
            labels_N = self.labels_N[positions_N]
            carried["label"] = labels_N
            if self.label_names:
                carried["label_name"] = [self.label_names[label] for label in labels_N]
        columns = {"image" if self.is_image else "text": content}
        return Items(ids_N=self.ids_N[positions_N], columns=columns, carried=carried, bytes_read=bytes_read)

    def _values(self, positions_N: IntArray) -> tuple[list[Any], int]:
        groups_N = np.searchsorted(self.group_starts_R, positions_N, side="right") - 1
        values: list[Any] = [None] * len(positions_N)
        bytes_read = 0
        for group in np.unique(groups_N):
            column, num_bytes = self._group(int(group))
            bytes_read += num_bytes
            wanted = np.flatnonzero(groups_N == group)
            taken = column.take(pa.array(positions_N[wanted] - self.group_starts_R[group]))
            for at, value in zip(wanted, taken.to_pylist(), strict=True):
                values[at] = value["bytes"] if isinstance(value, dict) else value
        return values, bytes_read

    def _group(self, group: int) -> tuple[pa.ChunkedArray[Any], int]:
        """The column of a row group, and how many bytes were read for it now."""
        if group in self.cache:
            self.cache.move_to_end(group)
            return self.cache[group], 0
        file, number = self.groups[group]
        path = self.files.paths[file]
        with reading(self.files.uri_of(path)), _open(self.files, path) as parquet:
            column = parquet.read_row_group(number, columns=[self.column]).column(0)
            stored = parquet.metadata.row_group(number)
            sizes = [stored.column(index) for index in range(stored.num_columns)]
        self.cache[group] = column
        while len(self.cache) > 1 and sum(kept.nbytes for kept in self.cache.values()) > CACHED_BYTES:
            self.cache.popitem(last=False)
        own = (size for size in sizes if size.path_in_schema.split(".")[0] == self.column)
        return column, sum(size.total_compressed_size for size in own)

    def _name(self, position: int) -> str:
        group = int(np.searchsorted(self.group_starts_R, position, side="right")) - 1
        return f"{self.files.uri_of(self.files.paths[self.groups[group][0]])} id {self.ids_N[position]}"


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> ParquetItems:
    """The rows of the files at `location`, in the order of sorted paths.

    Raises:
        SettingsError: no location, or not exactly one of `image` and `text`.
        SourceError: no file, a column is missing or of a wrong type, or ids are null or repeat.
    """
    if not location or ("image" in options) == ("text" in options):
        raise SettingsError(
            f"source {spec!r}: want a location and one of image and text, e.g. "
            "parquet:s3://bucket/items/*.parquet?image=jpeg"
        )
    is_image = "image" in options
    column, id_column = options["image" if is_image else "text"], options.get("id", "id")
    files = list_files(location, (".parquet",), may_be_glob=True)
    label = options.get("label")
    tables, groups, lengths = [], [], []
    for number, path in enumerate(files.paths):
        with reading(files.uri_of(path)), _open(files, path) as parquet:
            if number == 0 and "label" in parquet.schema_arrow.names:
                label = options.get("label", "label")
            _check_columns(parquet.schema_arrow, files.uri_of(path), column, id_column, label, is_image=is_image)
            tables.append(parquet.read(columns=sorted({id_column, label or id_column})))
            for group in range(parquet.metadata.num_row_groups):
                groups.append((number, group))
                lengths.append(parquet.metadata.row_group(group).num_rows)
    stop = int_option(spec, options, "limit", sum(lengths))
    ids_N = _ids(tables, id_column, files)
    labels_N, label_names = _labels(tables, label, files.uri)
    for array_N in (ids_N, labels_N):
        if array_N is not None:
            array_N.flags.writeable = False  # an opened source is shared by all of its process
    return ParquetItems(
        spec=spec,
        files=files,
        column=column,
        is_image=is_image,
        ids_N=ids_N[:stop],
        labels_N=None if labels_N is None else labels_N[:stop],
        label_names=label_names,
        group_starts_R=np.cumsum([0, *lengths[:-1]], dtype=np.int64),
        groups=groups,
    )


def _open(files: Files, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(path, filesystem=files.filesystem, pre_buffer=True)


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
    if not pa.types.is_integer(schema.field(id_column).type):
        raise SourceError(
            f"{uri}: id column {id_column!r} is {schema.field(id_column).type}; wanted integers: number the rows, "
            "or hash the key to 63 bits"
        )


def _ids(tables: Sequence[pa.Table], id_column: str, files: Files) -> IntArray:
    for table, path in zip(tables, files.paths, strict=True):
        if table[id_column].null_count:
            raise SourceError(f"{files.uri_of(path)}: {table[id_column].null_count} ids are null; give every row an id")
        with reading(f"{files.uri_of(path)} column {id_column}"):
            table[id_column].cast(pa.int64())
    ids_N: IntArray = np.concatenate([table[id_column].cast(pa.int64()).to_numpy() for table in tables])
    values, counts = np.unique(ids_N, return_counts=True)
    if (counts > 1).any():
        raise SourceError(f"{files.uri}: id {values[counts > 1][0]} occurs more than once; ids must be unique")
    return ids_N


def _labels(tables: Sequence[pa.Table], label: str | None, uri: str) -> tuple[IntArray | None, list[str]]:
    if label is None:
        return None, []
    kinds = {table[label].type for table in tables}
    if len(kinds) > 1:
        seen = ", ".join(sorted(map(str, kinds)))
        raise SourceError(f"{uri}: labels in {label!r} have several types ({seen}); write all files with one type")
    column = pa.chunked_array([chunk for table in tables for chunk in table[label].chunks], type=kinds.pop())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise SourceError(f"{uri}: {column.null_count} labels in {label!r} are null; fill them or name another column")
    if pa.types.is_integer(column.type):
        return np.array(column.cast(pa.int64()).to_numpy()), []
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise SourceError(f"{uri}: label column {label!r} is {column.type}; wanted integers or strings")
    names, labels_N = np.unique(np.asarray(column.to_pylist()), return_inverse=True)
    return labels_N.astype(np.int64), [str(name) for name in names]
