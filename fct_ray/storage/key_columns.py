"""The keys of one shard with their ids, read without any other column.

    object of the store              columns `id`, `key`
    adopted object, or rows of it    its column of ids is the keys; the id of row r is the shard's `id_min` + r

Owns: which column of which object that is, and reading it: on S3 by ranges. The hash of an object cannot be checked
without reading it all; its size is. Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.key_types import KEY, UserIds
from fct_ray.kinds import KeyType
from fct_ray.storage import objects
from fct_ray.storage.keys import as_stored, plain_ids
from fct_ray.storage.parquet_tables import read_parquet
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import single_column
from fct_ray.values import AdoptedLayout, Manifest, ShardRecord

IdArray = npt.NDArray[np.int64]
_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError)
"""What pyarrow raises on damaged files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyColumn:
    """Where the keys of a shard are."""

    shard: int
    uri: str
    column: str
    key_type: KeyType
    first_id: int | None
    """The id of the first row, where ids follow from the order of rows; None: they are in the column `id`."""
    id_min: int
    id_max: int
    num_rows: int
    rows: tuple[int, int] | None = None
    """The shard's rows in the object; None: all."""
    num_bytes: int | None = None
    """The size that the object must have; None: any."""


def key_columns(store: Store, manifest: Manifest) -> list[KeyColumn]:
    """Where the keys of each shard of a version are; none in a store without keys."""
    return [] if manifest.keys is None else columns_of(store, manifest.shards, manifest.keys, manifest.adopted)


def columns_of(
    store: Store, records: tuple[ShardRecord, ...] | list[ShardRecord], key_type: KeyType, adopted: AdoptedLayout | None
) -> list[KeyColumn]:
    """Where the keys of these shards are, before there is a manifest that has them."""
    layout = adopted or AdoptedLayout()
    return [
        KeyColumn(
            shard=record.shard,
            uri=store.uri_of(record.embeddings.path),
            column=layout.id if is_adopted else KEY,
            key_type=key_type,
            first_id=record.id_min if is_adopted else None,
            id_min=record.id_min,
            id_max=record.id_max,
            num_rows=record.rows,
            rows=record.embeddings.rows,
            num_bytes=record.embeddings.bytes if record.embeddings.rows is None else None,
        )
        for record in records
        for is_adopted in ["://" in record.embeddings.path]
    ]


def read_keys(shard: KeyColumn) -> tuple[IdArray, UserIds]:
    """The ids of a shard's rows [N] and their keys, in the order of rows.

    Raises:
        NotFoundError: there is no such object.
        FormatError: it has another size, no such columns, or keys of another type than the store.
        DataError: a key is null.
    """
    names = [shard.column] if shard.first_id is not None else ["id", shard.column]
    table = _read(shard, names)
    keys = as_stored(plain_ids(single_column(table, shard.column, shard.uri), shard.uri), shard.key_type, shard.uri)
    if shard.first_id is not None:
        return np.arange(shard.first_id, shard.first_id + len(keys), dtype=np.int64), keys
    return np.asarray(single_column(table, "id", shard.uri).cast(pa.int64()).to_numpy(zero_copy_only=False)), keys


def _read(shard: KeyColumn, names: list[str]) -> pa.Table:
    filesystem, path = objects.arrow_filesystem(shard.uri)
    try:
        file = filesystem.open_input_file(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"{shard.uri}: cannot read: there is no such object") from error
    with file:
        if shard.num_bytes is not None and file.size() != shard.num_bytes:
            raise FormatError(
                f"{shard.uri}: has {file.size():,} bytes, the manifest says {shard.num_bytes:,}: the object was damaged or "
                "replaced after it was written; restore it, or roll back (fct-ray store rollback)"
            )
        if shard.rows is None:
            return read_parquet(file, shard.uri, names)
        try:
            return _rows_of(pq.ParquetFile(file), shard.rows, names)
        except _ERRORS as error:
            raise FormatError(
                f"{shard.uri}: not a readable Parquet file ({error!s:.500}): it was damaged or replaced after it was "
                "adopted; restore it, or roll back (fct-ray store rollback)"
            ) from error


def _rows_of(file: pq.ParquetFile, rows: tuple[int, int], names: list[str]) -> pa.Table:
    """A range of rows; only the row groups that it meets are read."""
    lengths = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first = int(np.searchsorted(starts, rows[0], side="right")) - 1
    last = int(np.searchsorted(starts, rows[1], side="left"))
    return file.read_row_groups(range(first, last), columns=names).slice(
        rows[0] - int(starts[first]), rows[1] - rows[0]
    )
