"""What raw items are called by, out of the columns of Parquet files: integers, or keys (text, UUIDs, other bytes).

An item with a key has a 63-bit hash of it as its id in the source: so whatever addresses items by number addresses these too.
A store numbers its items by itself and keeps the keys.

Owns: that hash, and that all files agree and nothing repeats. Legend: N items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fct_ray.errors import SourceError
from fct_ray.key_types import KEY_TYPES, UserIds, in_type, key_type_of, plain, texts
from fct_ray.sources.files import reading
from fct_ray.sources.listing import IntArray


def keys_in(column: Any) -> UserIds | None:
    """The keys in a column, in the one type that Arrow has for them here; None: it holds integers."""
    found = key_type_of(column.type)
    return None if found is None else in_type(plain(column), KEY_TYPES[found])


def hashed(keys: UserIds) -> IntArray:
    """63-bit BLAKE2b hashes of keys, [N]; for text the hash that image folders have of their paths."""
    content = keys.cast(pa.large_binary()).to_pylist()
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in content)
    return (np.frombuffer(digests, dtype=">u8") >> np.uint64(1)).astype(np.int64)


def ids_and_keys(
    columns: Sequence[Any], name: str, uris: Sequence[str], source_uri: str
) -> tuple[IntArray, UserIds | None]:
    """Ids [N] of the items of some files, one column of ids each, and their keys.

    Raises:
        SourceError: a null or repeated id, or files whose ids are of different types.
    """
    for column, uri in zip(columns, uris, strict=True):
        if column.null_count:
            raise SourceError(f"{uri}: {column.null_count} ids are null; give every row an id")
    kinds = {key_type_of(column.type) for column in columns}
    if len(kinds) > 1:
        seen = ", ".join(sorted({str(column.type) for column in columns}))
        raise SourceError(f"{source_uri}: ids in {name!r} have several types ({seen}); write all files with one type")
    if kinds == {None}:
        for column, uri in zip(columns, uris, strict=True):
            with reading(f"{uri} column {name}"):
                column.cast(pa.int64())
        ids_N = np.concatenate([column.cast(pa.int64()).to_numpy() for column in columns])
        _refuse_repeated(ids_N, None, source_uri)
        return ids_N, None
    keys = pa.concat_arrays([keys_in(column) for column in columns])
    ids_N = hashed(keys)
    _refuse_repeated(ids_N, keys, source_uri)
    return ids_N, keys


def _refuse_repeated(ids_N: IntArray, keys: UserIds | None, source_uri: str) -> None:
    order = np.argsort(ids_N, kind="stable")
    twice = np.flatnonzero(ids_N[order][1:] == ids_N[order][:-1])
    if len(twice) == 0:
        return
    one, other = int(order[twice[0]]), int(order[twice[0] + 1])
    if keys is None or keys[one] == keys[other]:
        name = ids_N[one] if keys is None else texts(keys.slice(one, 1))[0]
        raise SourceError(f"{source_uri}: id {name} occurs more than once; ids must be unique")
    names = " and ".join(texts(keys.take(pa.array([one, other]))))
    raise SourceError(f"{source_uri}: {names} have the same 63-bit hash; rename one of them")
