"""The file of real queries at the door: their embeddings and what is relevant for each, read and checked.

    query     int or string, unique; without it the row numbers are the names
    old       list of floats: the query by the old model         (old or new, or both)
    new       list of floats: the query by the new model
    side      list of floats: the query by the model of the side-information, where a way needs it
    relevant  list of ids (ints, or the store's keys): of the items that the query should find, one or more
    grades    list of numbers, as many as `relevant`: how relevant; without it all 1
    group     int: a language, a market, a client; the worst group is told

Owns: which columns the file has and what is refused (naming file and row). Whether grades are positive and ids occur once is
checked where queries are judged. Knows nothing of stores. Array legend: Q queries, D dimension of old, W of new, S of
side-information, R relevant items of all queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import DataError, FormatError
from fct_ray.key_types import UserIds, key_type_of
from fct_ray.storage import objects
from fct_ray.storage.keys import plain_ids
from fct_ray.storage.parquet_tables import read_parquet_bytes
from fct_ray.storage.vector_columns import (
    FLOATS,
    ArrowArray,
    FloatArray,
    first_true,
    is_list,
    single_column,
    vectors_of,
)

QUERY, OLD, NEW, SIDE, RELEVANT, GRADES, GROUP = "query", "old", "new", "side", "relevant", "grades", "group"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryFile:
    """Queries in the order of the file; the items of query q are `relevant[offsets[q]:offsets[q + 1]]`."""

    ids_Q: npt.NDArray[Any]
    """int64, or strings."""
    old_QD: FloatArray | None
    new_QW: FloatArray | None
    side_QS: FloatArray | None
    relevant_offsets_Q1: npt.NDArray[np.int64]
    relevant: UserIds
    """Ids [R] of items as users have them: whole numbers or keys."""
    grades_R: npt.NDArray[np.float32]
    """1 where the file has no grades."""
    groups_Q: npt.NDArray[np.int64] | None


def read_query_file(uri: str) -> QueryFile:
    """The judged queries in a Parquet file (columns: see the module).

    Raises:
        NotFoundError: there is no such file.
        FormatError: a column is missing or of another type, vectors have unequal lengths.
        DataError: no rows; a null; NaN or infinite vectors; no relevant item; another number of grades than of relevant
            items; a query named twice. Names the row.
    """
    table = read_parquet_bytes(objects.read_bytes(uri), uri)
    if not {OLD, NEW} & set(table.column_names):
        raise FormatError(
            f"{uri}: columns {table.column_names}; wanted 'old' or 'new', the queries' embeddings by the old and "
            "the new model. Embed the queries and write the vectors, one list of floats per row"
        )
    if table.num_rows == 0:
        raise DataError(f"{uri}: 0 rows; wanted queries with their embeddings and relevant ids, one row per query")
    offsets_Q1, relevant_R = _lists(table, RELEVANT, uri)
    return QueryFile(
        ids_Q=_names(table, uri),
        old_QD=_vectors(table, OLD, uri),
        new_QW=_vectors(table, NEW, uri),
        side_QS=_vectors(table, SIDE, uri),
        relevant_offsets_Q1=offsets_Q1,
        relevant=plain_ids(relevant_R, uri, RELEVANT),
        grades_R=_grades(table, offsets_Q1, uri),
        groups_Q=_groups(table, uri),
    )


def _vectors(table: pa.Table, name: str, uri: str) -> FloatArray | None:
    return vectors_of(table, name, uri, None, FLOATS) if name in table.column_names else None


def _names(table: pa.Table, uri: str) -> npt.NDArray[Any]:
    """The names of the queries, [Q]; row numbers where the file has none."""
    if QUERY not in table.column_names:
        return np.arange(table.num_rows, dtype=np.int64)
    column = _without_nulls(table, QUERY, uri)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (is_text or _is_id(column.type)):
        raise FormatError(f"{uri}: column 'query' is {column.type}; wanted int64 or strings. Cast it, or leave it out")
    names_Q = np.array(column.to_pylist(), np.str_) if is_text else column.cast(pa.int64()).to_numpy()
    order_Q = np.argsort(names_Q, kind="stable")
    repeated = np.flatnonzero(names_Q[order_Q][1:] == names_Q[order_Q][:-1])
    if repeated.size:
        first, second = order_Q[repeated[0]], order_Q[repeated[0] + 1]
        raise DataError(
            f"{uri}: rows {first} and {second} are both query {names_Q[first]}; wanted one row per query with all of its "
            "relevant ids. Join the rows, or leave the column 'query' out to judge every row by itself"
        )
    return names_Q


def _lists(table: pa.Table, name: str, uri: str) -> tuple[npt.NDArray[np.int64], ArrowArray]:
    """Offsets [Q + 1] and flat values of a column of lists without nulls; `relevant` must have values in every row."""
    column = single_column(table, name, uri)
    wanted = "ids" if name == RELEVANT else "numbers"
    fits = is_list(column.type) and (_is_item if name == RELEVANT else _is_number)(column.type.value_type)
    if not fits:
        raise FormatError(f"{uri}: column {name!r} is {column.type}; wanted a list of {wanted} per row. Write it so")
    if column.null_count:
        raise DataError(f"{uri}: row {first_true(column.is_null())}: {name!r} is null; wanted a list of {wanted}")
    if pa.types.is_fixed_size_list(column.type):
        lengths_Q = np.full(len(column), column.type.list_size, np.int64)
    else:
        lengths_Q = np.diff(column.offsets.to_numpy()).astype(np.int64)
    if name == RELEVANT and not lengths_Q.all():
        empty = np.flatnonzero(lengths_Q == 0)
        raise DataError(
            f"{uri}: row {empty[0]}: 'relevant' is empty ({empty.size} such rows in all); wanted one or more ids of items. "
            "Leave queries out for which nothing is relevant"
        )
    offsets_Q1 = np.concatenate([[0], np.cumsum(lengths_Q)]).astype(np.int64)
    values = column.flatten()
    if values.null_count:
        row = int(np.searchsorted(offsets_Q1, first_true(values.is_null()), side="right")) - 1
        raise DataError(f"{uri}: row {row}: {name!r} holds a null; wanted {wanted}")
    return offsets_Q1, values


def _grades(table: pa.Table, offsets_Q1: npt.NDArray[np.int64], uri: str) -> npt.NDArray[np.float32]:
    """One grade per relevant item, [R]."""
    if GRADES not in table.column_names:
        return np.ones(int(offsets_Q1[-1]), np.float32)
    grade_offsets_Q1, values = _lists(table, GRADES, uri)
    unequal = np.flatnonzero(np.diff(grade_offsets_Q1) != np.diff(offsets_Q1))
    if unequal.size:
        row = int(unequal[0])
        raise DataError(
            f"{uri}: row {row}: {np.diff(grade_offsets_Q1)[row]} grades for {np.diff(offsets_Q1)[row]} relevant items; "
            "wanted one grade per item"
        )
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32)


def _groups(table: pa.Table, uri: str) -> npt.NDArray[np.int64] | None:
    if GROUP not in table.column_names:
        return None
    column = _without_nulls(table, GROUP, uri)
    if not _is_id(column.type):
        raise FormatError(f"{uri}: column 'group' is {column.type}; wanted int64. Number the groups, or leave it out")
    groups_Q: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return groups_Q


def _without_nulls(table: pa.Table, name: str, uri: str) -> ArrowArray:
    column = single_column(table, name, uri)
    if column.null_count:
        raise DataError(f"{uri}: row {first_true(column.is_null())}: {name!r} is null; wanted a value in every row")
    return column


def _is_id(kind: pa.DataType) -> bool:
    """Integers that int64 can hold."""
    return bool(pa.types.is_integer(kind)) and kind != pa.uint64()


def _is_item(kind: pa.DataType) -> bool:
    """Integers and keys."""
    return bool(pa.types.is_integer(kind)) or key_type_of(kind) is not None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
