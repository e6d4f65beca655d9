"""Columns of ids as users have them: whole numbers, or keys (text, UUIDs, other bytes) of which a store has one type.

    in a file                                              becomes
    string, large_string, string_view, dictionary of them  string
    uuid of Arrow, 16 bytes; text, where a store has UUIDs uuid
    other binary; hexadecimal text, where it has bytes     binary
    integers of any width                                  int64

Owns: that, and what is refused (naming file and row). Knows nothing of stores: which id a key has, is found in
`workflows/keys`. Legend: N items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.errors import DataError, FormatError
from fct_ray.key_types import KEY_TYPES, UUID_BYTES, WORDS, UserIds, calls_items, in_type, key_type_of, plain, texts
from fct_ray.kinds import KeyType
from fct_ray.storage.id_columns import integer_ids
from fct_ray.storage.vector_columns import ArrowArray, first_true, single_column


def user_ids_of(table: pa.Table, uri: str, name: str = "id") -> UserIds:
    """The ids in a column of a table, by the column's own type: int64, or keys.

    Raises:
        FormatError: there is no such column, or it holds neither integers nor keys, or an integer beyond int64.
        DataError: a null or repeated id; names the row.
    """
    ids = plain_ids(single_column(table, name, uri), uri, name)
    refuse_repeated(ids, uri)
    return ids


def plain_ids(column: ArrowArray, uri: str, name: str = "id") -> UserIds:
    """The values of a column as int64 or keys, in one piece; repeated ones pass.

    Raises:
        FormatError: it holds neither integers nor keys, or an integer beyond int64.
        DataError: a null; names the row.
    """
    column = plain(column)
    found = key_type_of(column.type)
    if not calls_items(column.type):
        raise FormatError(
            f"{uri}: column {name!r} is {column.type}; wanted whole numbers (int64), strings, UUIDs or bytes: cast the ids "
            "to one of these"
        )
    if column.null_count:
        raise DataError(f"{uri}: row {first_true(column.is_null())}: the id is null; wanted a unique id for every row")
    if found is None:
        return integer_ids(column, name, uri)
    ids = in_type(column, KEY_TYPES[found])
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid as error:
        raise FormatError(
            f"{uri}: column {name!r} is damaged ({error!s:.200}): write or copy the file again"
        ) from error
    return ids


def as_stored(ids: UserIds, wanted: KeyType | None, uri: str) -> UserIds:
    """Ids of a file in the type of a store's (None: int64); text becomes UUIDs or bytes where the store has these.

    Raises:
        FormatError: they are of another type than the store's ids.
        DataError: a text that is no UUID, or no hexadecimal number; names the row.
    """
    seen = key_type_of(ids.type)
    if seen is wanted:
        return ids
    if wanted is not None and seen is KeyType.STRING:
        return _from_text(ids, wanted, uri)
    if wanted is KeyType.STRING and seen is KeyType.UUID:
        return pa.array(texts(ids), KEY_TYPES[wanted])
    if wanted is not None and {seen, wanted} == {KeyType.UUID, KeyType.BINARY}:
        return _same_bytes(ids, wanted, uri)
    raise FormatError(
        f"{uri}: the ids are {ids.type}; wanted {WORDS[wanted]}, as the ids of this store are: name items by the ids that "
        "they had when they came into the store"
    )


def refuse_repeated(ids: UserIds, uri: str) -> None:
    """Raise DataError if an id is there twice; names both rows."""
    found = repeated_rows(ids)
    if found is not None:
        first, second, count = found
        raise DataError(
            f"{uri}: rows {first} and {second} both have id {texts(ids.slice(first, 1))[0]} ({count} repeated ids in all); "
            "ids must be unique in the store. Remove the duplicates"
        )


def repeated_rows(ids: UserIds) -> tuple[int, int, int] | None:
    """Two rows with one id, and how many rows repeat an earlier one; None if all ids are different."""
    codes_N = _codes(ids)
    if len(codes_N) < 2 or bool((codes_N[1:] > codes_N[:-1]).all()):
        return None
    order_N = np.argsort(codes_N, kind="stable")
    repeated = np.flatnonzero(codes_N[order_N][1:] == codes_N[order_N][:-1])
    return (int(order_N[repeated[0]]), int(order_N[repeated[0] + 1]), len(repeated)) if len(repeated) else None


def repeats_earlier(ids: UserIds) -> npt.NDArray[np.bool_]:
    """Which rows have the id of an earlier one, bool [N]."""
    codes_N = _codes(ids)
    order_N = np.argsort(codes_N, kind="stable")
    repeated_N = np.zeros(len(codes_N), dtype=bool)
    repeated_N[order_N[1:][codes_N[order_N[1:]] == codes_N[order_N[:-1]]]] = True
    return repeated_N


def _codes(ids: UserIds) -> npt.NDArray[np.int64]:
    """A number for each id, equal for equal ids."""
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.asarray(ids.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _from_text(ids: UserIds, wanted: KeyType, uri: str) -> UserIds:
    digits = pc.utf8_lower(ids)
    if wanted is KeyType.UUID:
        plain_text = pc.match_substring_regex(digits, "^([0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32})$")
        digits = pc.replace_substring(digits, "-", "")
    else:
        plain_text = pc.match_substring_regex(digits, "^([0-9a-f]{2})*$")
    if not pc.all(plain_text, min_count=0).as_py():
        row = first_true(pc.invert(plain_text))
        example = "6f1c2d3e-0000-4000-8000-000000000000" if wanted is KeyType.UUID else "00ff7a"
        raise DataError(
            f"{uri}: row {row}: the id is {ids[row].as_py()!r:.100}; wanted {WORDS[wanted]} such as {example}, as the ids of "
            "this store are: name items by these"
        )
    content, lengths_N = bytes.fromhex("".join(digits.to_pylist())), pc.binary_length(digits).to_numpy() // 2
    if wanted is KeyType.UUID:
        return pa.FixedSizeBinaryArray.from_buffers(KEY_TYPES[wanted], len(ids), [None, pa.py_buffer(content)])
    offsets = np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        KEY_TYPES[wanted], len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    )


def _same_bytes(ids: UserIds, wanted: KeyType, uri: str) -> UserIds:
    try:
        return ids.cast(KEY_TYPES[wanted])
    except pa.ArrowInvalid as error:
        raise FormatError(
            f"{uri}: the ids are {ids.type}, and not all have {UUID_BYTES} bytes; wanted {WORDS[wanted]}, as the ids of this "
            "store are: name items by these"
        ) from error
