"""Columns that say what items are called: whole numbers become `id`, all else becomes `key`.

    int8 ... int64, uint8 ... uint64, dictionaries of them     id      int64
    string, large_string, string_view, dictionaries of them    key     string
    UUIDs of 16 bytes (Arrow's uuid, fixed_size_binary(16))    key     fixed_size_binary(16)
    binary of other sizes                                      key     binary

Owns: that table, in `kind_of_ids`, and the casts. Whether ids repeat is looked for elsewhere.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY_TYPES, UUID_BYTES
from fct_ray.kinds import KeyType
from fct_ray.storage.vector_columns import ArrowArray


def kind_of_ids(kind: pa.DataType, name: str, uri: str) -> KeyType | None:
    """What a column of this type calls items by: keys of some type, or (None) whole numbers.

    Raises:
        FormatError: by nothing that a store can use; says what to cast it to.
    """
    kind = _plain_type(kind)
    if pa.types.is_integer(kind):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return KeyType.STRING
    if pa.types.is_fixed_size_binary(kind):
        return KeyType.UUID if kind.byte_width == UUID_BYTES else KeyType.BINARY
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return KeyType.BINARY
    raise FormatError(
        f"{uri}: column {name!r} is {kind}; wanted ids: whole numbers, text, UUIDs or binary. Cast the column to int64 or to "
        "a string and write the file again, name another one with --columns.id, or number the rows with --columns.id row"
    )


def check_same_kind(seen: KeyType | None, wanted: KeyType | None, name: str, uri: str) -> None:
    """Refuse an object whose items are called by something else than those of the others. Raises FormatError."""
    if seen is not wanted:
        said = ["whole numbers" if keys is None else f"keys of type {keys}" for keys in (seen, wanted)]
        raise FormatError(
            f"{uri}: column {name!r} holds {said[0]}; wanted {said[1]}, as in the others of the gallery: write all files "
            "with ids of one type"
        )


def integer_ids(column: ArrowArray, name: str, uri: str) -> ArrowArray:
    """A column of whole numbers of any width as int64; nulls stay. Raises FormatError: a number is beyond int64."""
    column = _decoded(column)
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise FormatError(
            f"{uri}: column {name!r} is {column.type} and holds an id beyond int64 ({error!s:.200}). Cast the ids to strings "
            "and write the file again: then they are kept as keys"
        ) from error


def keys_as(column: ArrowArray, keys: KeyType) -> ArrowArray:
    """A column of keys of this type, as stores keep them; nulls stay."""
    return _decoded(column).cast(KEY_TYPES[keys])


def _plain_type(kind: Any) -> pa.DataType:
    """The type below extension types and dictionaries."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def _decoded(column: ArrowArray) -> ArrowArray:
    """A column without extension types and dictionaries."""
    while True:
        if isinstance(column.type, pa.BaseExtensionType):
            column = stored(column)
        elif pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        else:
            return column


def stored(column: ArrowArray) -> ArrowArray:
    """A column of an extension type as what it is stored as."""
    chunks = [chunk.storage for chunk in column.chunks]
    return pa.chunked_array(chunks, type=column.type.storage_type)
