"""Columns that say what items are called: whole numbers become `id`, all else becomes `key`.

    int8 ... int64, uint8 ... uint64, dictionaries of them     id      int64
    string, large_string, string_view, dictionaries of them    key     string
    UUIDs of 16 bytes (Arrow's uuid, fixed_size_binary(16))    key     fixed_size_binary(16)
    binary of other sizes                                      key     binary

Owns: that table, in `kind_of_ids`, the casts, and what ids are often called. Whether ids repeat is looked for elsewhere.
"""

from __future__ import annotations

import re

import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY_TYPES, calls_items, in_type, key_type_of, plain
from fct_ray.kinds import KeyType
from fct_ray.storage.vector_columns import ArrowArray

_NAMES_OF_IDS = re.compile(
    r"(.*[_.-])?(id|ids|uuid|guid|key|pk|index)|uid|idx|item|document|row|sku|asin", re.IGNORECASE
)


def kind_of_ids(kind: pa.DataType, name: str, uri: str) -> KeyType | None:
    """What a column of this type calls items by: keys of some type, or (None) whole numbers.

    Raises:
        FormatError: by nothing that a store can use; says what to cast it to.
    """
    if not calls_items(kind):
        raise FormatError(
            f"{uri}: column {name!r} is {kind}; wanted ids: whole numbers, text, UUIDs or binary. Cast the column to int64 "
            "or to a string and write the file again, name another one with --columns.id, or number the rows with "
            "--columns.id row"
        )
    return key_type_of(kind)


def is_name_of_ids(name: str) -> bool:
    """Whether ids are often called so: "doc_id", "uuid", "key"."""
    return _NAMES_OF_IDS.fullmatch(name) is not None


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
    column = plain(column)
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise FormatError(
            f"{uri}: column {name!r} is {column.type} with a number beyond int64; wanted int64: cast the ids to strings and "
            f"write the file again, then they are kept as keys ({error!s:.200})"
        ) from error


def keys_as(column: ArrowArray, keys: KeyType) -> ArrowArray:
    """A column of keys of this type, as stores keep them; nulls stay."""
    return in_type(plain(column), KEY_TYPES[keys])
