"""Parquet files at the door: pairs and queries in, search results and plain tables in and out.

Owns: the files that users bring and take away, with the checks of a shard. Knows nothing of stores. Array legend:
N pairs, W dimension of the new model, Q queries, D dimension of the query encoder, R result rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import DataError, FormatError, NotFoundError
from fct_ray.key_types import UserIds
from fct_ray.storage import objects
from fct_ray.storage.keys import user_ids_of
from fct_ray.storage.parquet_tables import read_parquet, read_parquet_bytes
from fct_ray.storage.shards import EMBEDDING, ID, IdArray, encode_table, ids_of
from fct_ray.storage.vector_columns import FLOATS, FloatArray, vectors_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsFile:
    """New embeddings of a sample of the gallery, by id."""

    ids: UserIds
    """As the file has them: whole numbers or keys."""
    embeddings_NW: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class QueriesFile:
    """Embeddings of queries, by query id: one array [Q, D], or several by role."""

    ids: UserIds
    """Whole numbers, strings or bytes that name the queries."""
    embeddings: FloatArray | dict[str, FloatArray]


def read_pairs(uri: str) -> PairsFile:
    """The pairs in a Parquet file with columns `id` (whole numbers or keys, unique) and `embedding`.

    Raises:
        NotFoundError: there is no such file.
        FormatError: columns are missing or of another type.
        DataError: no rows; null or duplicate ids; NaN, infinite or null vectors; names the row.
    """
    ids, embeddings_NW = _read_vectors(uri, "pairs: embeddings by the new model of items of the store, by id")
    return PairsFile(ids=ids, embeddings_NW=embeddings_NW)


def read_queries(uri: str, roles: Sequence[str] = ()) -> QueriesFile:
    """The queries in a Parquet file with columns `id` (unique) and `embedding`; or, with `roles`, one for each.

    Raises like `read_pairs`.
    """
    if not roles:
        ids, embeddings_QD = _read_vectors(uri, "queries: embeddings by the store's query encoder, by query id")
        return QueriesFile(ids=ids, embeddings=embeddings_QD)
    table = read_table(uri)
    missing = [role for role in roles if role not in table.column_names]
    if missing:
        raise FormatError(
            f"{uri}: has the columns {table.column_names}; this version is searched by the embeddings "
            f"{', '.join(map(str, roles))}: write one column of embeddings for each, beside `id`"
        )
    embeddings = {str(role): vectors_of(table, role, uri, None, FLOATS) for role in roles}
    return QueriesFile(ids=user_ids_of(table, uri), embeddings=embeddings)


def read_user_ids(uri: str) -> UserIds:
    """The ids in the column `id` of a file, as users have them: whole numbers or keys.

    Raises:
        NotFoundError: there is no such file.
        FormatError, DataError: no readable column `id` of unique ids.
    """
    return user_ids_of(read_parquet_bytes(objects.read_bytes(uri), uri), uri)


def read_ids(uri: str, num_bytes: int | None = None) -> IdArray:
    """Only the ids of a shard or of a file with a column `id`, [N]; no other column is read.

    `num_bytes` is the size that the object must have (None: any). Its hash cannot be checked without reading it all:
    whoever then uses more than the ids reads the object with `Store.read`, which checks it.

    Raises:
        NotFoundError: there is no such object.
        FormatError, DataError: no readable column `id` of unique int64.
    """
    with opened(uri, num_bytes) as file:
        return ids_of(read_parquet(file, uri, [ID]), uri)


@contextmanager
def opened(uri: str, num_bytes: int | None = None) -> Iterator[pa.NativeFile]:
    """An object whose ranges are read when they are asked for; `num_bytes` is the size that it must have (None: any).

    Raises:
        NotFoundError: there is no such object.
        FormatError: it has another size.
    """
    filesystem, path = objects.arrow_filesystem(uri)
    try:
        file = filesystem.open_input_file(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}: cannot read: there is no such object") from error
    with file:
        if num_bytes is not None and file.size() != num_bytes:
            raise FormatError(
                f"{uri}: has {file.size():,} bytes, the manifest says {num_bytes:,}: the object was damaged or replaced "
                "after it was written; restore it, or roll back (fct-ray store rollback)"
            )
        yield file


def write_search_results(
    uri: str,
    query: npt.ArrayLike | UserIds,
    rank: npt.ArrayLike,
    id: npt.ArrayLike | UserIds,  # noqa: A002
    score: npt.ArrayLike,
    group: UserIds | None = None,
) -> tuple[int, str]:
    """Write search results, [R] each, as columns `query`, `rank`, `id`, `score` (float32) and, where given, `group`.

    Queries, ids and groups have the types that they are given in: int64, or those of keys.
    """
    columns: dict[str, tuple[Any, pa.DataType]] = {
        "query": (query, pa.int64()),
        "rank": (rank, pa.int64()),
        "id": (id, pa.int64()),
        "score": (score, pa.float32()),
    }
    arrays = {
        name: values if isinstance(values, pa.Array) else pa.array(values, kind)
        for name, (values, kind) in columns.items()
    }
    return write_table(uri, pa.table(arrays if group is None else {**arrays, "group": group}))


def write_table(uri: str, table: pa.Table) -> tuple[int, str]:
    """Write a table as one Parquet object; returns (bytes, sha256)."""
    return objects.write_bytes(uri, encode_table(table))


def read_table(uri: str) -> pa.Table:
    """The table in a Parquet object. Raises NotFoundError, FormatError."""
    return read_parquet_bytes(objects.read_bytes(uri), uri)


def _read_vectors(uri: str, wanted: str) -> tuple[UserIds, FloatArray]:
    table = read_table(uri)
    ids, embeddings_ND = user_ids_of(table, uri), vectors_of(table, EMBEDDING, uri, None, FLOATS)
    if len(ids) == 0:
        raise DataError(f"{uri}: 0 rows; wanted {wanted}")
    return ids, embeddings_ND
