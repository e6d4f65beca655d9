"""The keys of one shard with their ids, or another column of it, read without any other.

    object of the store              columns `id`, `key`
    adopted object, or rows of it    its column of ids is the keys; the id of row r is the shard's `id_min` + r

Owns: which columns of which object these are, and reading them: on S3 by ranges. The hash of an object cannot be checked
without reading it all; its size is. Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.key_types import KEY, UserIds, comparable
from fct_ray.kinds import KeyType
from fct_ray.storage.keys import as_stored, plain_ids
from fct_ray.storage.pairs import opened
from fct_ray.storage.parquet_parts import read_part
from fct_ray.storage.parquet_tables import read_parquet
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import single_column
from fct_ray.values import ROW_NUMBERS, AdoptedLayout, Manifest

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyColumn:
    """Where the keys of a shard are, or the values of a carried column."""

    shard: int
    uri: str
    column: str
    key_type: KeyType | None
    """None: it is a carried column, with values of any type."""
    first_id: int | None
    """The id of the first row, where ids follow from the order of rows; None: they are in the column of ids."""
    id_min: int
    id_max: int
    num_rows: int
    rows: tuple[int, int] | None = None
    """The shard's rows in the object; None: all."""
    byte_range: tuple[int, int] | None = None
    num_bytes: int | None = None
    """The size that the object must have; None: any."""
    id_column: str = "id"


def key_columns(store: Store, manifest: Manifest) -> list[KeyColumn]:
    """Where the keys of each shard of a version are; none in a store without keys."""
    if manifest.keys is None:
        return []
    layout = manifest.adopted or AdoptedLayout()
    return [
        KeyColumn(
            shard=record.shard,
            uri=store.uri_of(record.embeddings.path),
            column=layout.id if is_adopted else KEY,
            key_type=manifest.keys,
            first_id=record.id_min if is_adopted else None,
            id_min=record.id_min,
            id_max=record.id_max,
            num_rows=record.rows,
            rows=record.embeddings.rows,
            byte_range=record.embeddings.byte_range,
            num_bytes=record.embeddings.bytes if record.embeddings.rows is None else None,
        )
        for record in manifest.shards
        for is_adopted in [manifest.is_adopted(record.embeddings)]
    ]


def carried_columns(store: Store, manifest: Manifest, name: str) -> list[KeyColumn]:
    """Where the values of a carried column are, for each shard of a version."""
    layout = manifest.adopted or AdoptedLayout()
    by_position = manifest.keys is not None or layout.id == ROW_NUMBERS
    return [
        KeyColumn(
            shard=record.shard,
            uri=store.uri_of(record.embeddings.path),
            column=name,
            key_type=None,
            first_id=record.id_min if is_adopted and by_position else None,
            id_min=record.id_min,
            id_max=record.id_max,
            num_rows=record.rows,
            rows=record.embeddings.rows,
            byte_range=record.embeddings.byte_range,
            num_bytes=record.embeddings.bytes if record.embeddings.rows is None else None,
            id_column=layout.id if is_adopted else "id",
        )
        for record in manifest.shards
        for is_adopted in [manifest.is_adopted(record.embeddings)]
    ]


def read_keys(shard: KeyColumn) -> tuple[IdArray, UserIds]:
    """The ids of a shard's rows [N] and their keys (or carried values, which may be null), in the order of rows.

    Raises:
        NotFoundError: there is no such object.
        FormatError: it has another size, no such columns, or keys of another type than the store.
        DataError: a key is null.
    """
    names = [shard.column] if shard.first_id is not None else [shard.id_column, shard.column]
    table = _read(shard, names)
    column = single_column(table, shard.column, shard.uri)
    if shard.key_type is None:
        keys = comparable(column)
    else:
        keys = as_stored(plain_ids(column, shard.uri), shard.key_type, shard.uri)
    if shard.first_id is not None:
        return np.arange(shard.first_id, shard.first_id + len(keys), dtype=np.int64), keys
    return np.asarray(
        single_column(table, shard.id_column, shard.uri).cast(pa.int64()).to_numpy(zero_copy_only=False)
    ), keys


def _read(shard: KeyColumn, names: list[str]) -> pa.Table:
    if shard.rows is not None and shard.byte_range is not None:
        return read_part(shard.uri, shard.rows, shard.byte_range, None, names)
    with opened(shard.uri, shard.num_bytes) as file:
        return read_parquet(file, shard.uri, names)
