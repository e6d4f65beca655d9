"""The types that ids have, and how they look to people and programs: whole numbers, or keys of one type per store.

    string   pa.string()    str            text as it is, also UUIDs that are written as text
    uuid     pa.binary(16)  uuid.UUID      6f1c2d3e-0000-4000-8000-000000000000
    binary   pa.binary()    bytes          00ff7a
    no keys  pa.int64()     int            the `id` itself

Owns: that table, for all who read or show ids. Knows no files. Legend: N items.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.kinds import KeyType

KEY = "key"
"""The column of keys in the objects of a store that has some."""
UserIds: TypeAlias = Any
"""Ids as users have them, an Arrow array without nulls: int64, or one of KEY_TYPES."""
KEY_TYPES: dict[KeyType, Any] = {
    KeyType.STRING: pa.string(),
    KeyType.UUID: pa.binary(16),
    KeyType.BINARY: pa.binary(),
}
WORDS = {
    None: "whole numbers (int64)",
    KeyType.STRING: "strings",
    KeyType.UUID: "UUIDs (of 16 bytes, or as text)",
    KeyType.BINARY: "bytes (binary, or as hexadecimal text)",
}
"""What a message calls the ids of a store."""
UUID_BYTES = 16


def key_type_of(kind: pa.DataType) -> KeyType | None:
    """The type of keys that a column of this type holds; None: none, such as integers.

    Examples:
        >>> key_type_of(pa.dictionary(pa.int32(), pa.large_string())), key_type_of(pa.int32())
        (<KeyType.STRING: 'string'>, None)
    """
    kind = _values_type(kind)
    if _is_text(kind):
        return KeyType.STRING
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == UUID_BYTES:
        return KeyType.UUID
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return KeyType.BINARY if is_bytes or pa.types.is_fixed_size_binary(kind) else None


def calls_items(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold ids: whole numbers of any width, or keys."""
    return bool(pa.types.is_integer(_values_type(kind))) or key_type_of(kind) is not None


def plain(column: Any) -> Any:
    """A column in one piece, without dictionaries and extension types; nulls stay."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # strings of more than 2 GB
        array = pa.concat_arrays([in_type(chunk, pa.large_string()) for chunk in array.chunks])
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        else:
            return array


def in_type(column: Any, kind: pa.DataType) -> Any:
    """A column cast to a type of KEY_TYPES; to its large variant where it has more than 2 GB."""
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:  # more than 2 GB of text in one piece
        return column.cast(pa.large_string() if kind == pa.string() else pa.large_binary())


def comparable(column: Any) -> Any:
    """The values of a column of any type in one piece: integers as int64, text and bytes as keys are, others as they are."""
    array = plain(column)
    found = key_type_of(array.type)
    if found is not None:
        return in_type(array, KEY_TYPES[found])
    return array.cast(pa.int64()) if pa.types.is_integer(array.type) else array


def texts(ids: UserIds) -> list[str]:
    """Ids for people: UUIDs with hyphens, other bytes as hexadecimal digits.

    Examples:
        >>> texts(pa.array([7])), texts(pa.array([bytes(16)], pa.binary(16)))
        (['7'], ['00000000-0000-0000-0000-000000000000'])
    """
    found = key_type_of(ids.type)
    if found is KeyType.UUID:
        return [str(uuid.UUID(bytes=value)) for value in ids.to_pylist()]
    if found is KeyType.BINARY:
        return [value.hex() for value in ids.to_pylist()]
    return [str(value) for value in ids.to_pylist()]


def shown(ids: UserIds) -> list[str | None]:
    """`texts` of ids of which some are null: None for these."""
    there = [value.is_valid for value in ids]
    found = iter(texts(ids.drop_null()))
    return [next(found) if valid else None for valid in there]


def to_python(ids: UserIds) -> npt.NDArray[Any]:
    """Ids for programs, [N]: int64; or objects: str, bytes, uuid.UUID. A null key is None."""
    found = key_type_of(ids.type)
    if found is None:
        return np.asarray(ids.to_numpy(zero_copy_only=False))
    values = ids.to_pylist()
    if found is KeyType.UUID:
        values = [None if value is None else uuid.UUID(bytes=value) for value in values]
    objects_N = np.empty(len(values), dtype=object)
    objects_N[:] = values
    return objects_N


def _values_type(kind: Any) -> Any:
    """The type below extension types and dictionaries."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
