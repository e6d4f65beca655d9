"""Ids that a program holds or a person typed, as the Arrow arrays that files give. Legend: N items."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY_TYPES, UUID_BYTES, WORDS, UserIds
from fct_ray.kinds import KeyType
from fct_ray.storage.keys import as_stored, plain_ids


def from_python(values: Any, what: str) -> UserIds:
    """Ids [N] that a program has: Arrow or NumPy arrays, a pandas Series, a list of int, str, bytes or uuid.UUID, or one id.

    Raises:
        FormatError: they are of no one type, or of one that no id has.
        DataError: one is missing.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return plain_ids(values, what)
    if isinstance(values, str | bytes | uuid.UUID | int):
        values = [values]
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return plain_ids(pa.array(np.atleast_1d(values)), what)
    listed = [values.item()] if isinstance(values, np.generic) else list(getattr(values, "tolist", lambda: values)())
    if len(listed) == 0:
        return pa.array([], pa.int64())
    kind = None
    if all(isinstance(value, uuid.UUID) for value in listed):
        listed = [value.bytes for value in listed]
    if all(isinstance(value, bytes) and len(value) == UUID_BYTES for value in listed):
        kind = KEY_TYPES[KeyType.UUID]
    try:
        return plain_ids(pa.array(listed, kind), what)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise FormatError(
            f"{what}: ids of several kinds, or beyond int64 ({error!s:.200}); want ids of one kind: whole numbers, strings, "
            "bytes or uuid.UUID"
        ) from error


def from_texts(values: Sequence[str], wanted: KeyType | None, what: str) -> UserIds:
    """Ids that were typed, in the type of a store's. Raises FormatError, DataError: one cannot be of that type."""
    if wanted is not None:
        return as_stored(pa.array(values, pa.string()), wanted, what)
    try:
        return pa.array([int(value) for value in values], pa.int64())
    except (ValueError, OverflowError) as error:
        raise FormatError(
            f"{what}: {error!s:.200}; the ids of this store are {WORDS[None]}: give those, separated by commas"
        ) from error
