"""Rows that cannot be used, found and left out, so that a few of them need not stop a gallery of millions.

Owns: which rows are bad: no id or a repeated one, no vector, one of another length, NaN or infinite numbers. What is wrong
with a whole file (missing columns, other types) is refused by `shards` as ever. Legend: N rows, D numbers of a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.errors import DataError
from fct_ray.key_types import KEY, UserIds, plain, shown, texts
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.storage import pairs, shards, vector_columns
from fct_ray.storage.keys import repeats_earlier
from fct_ray.storage.shards import EMBEDDING, ID, SIDE_INFO, ShardColumns
from fct_ray.values import BadRow

BoolArray = npt.NDArray[np.bool_]


def parse_shard(
    data: bytes,
    uri: str,
    on_bad_row: OnBadRow,
    *,
    dimension: int | None,
    side_dimension: int | None,
    keys: KeyType | None = None,
) -> tuple[ShardColumns, tuple[BadRow, ...]]:
    """`shards.parse_shard` of the usable rows, and the others; with REFUSE the first bad row raises, as there.

    Raises:
        FormatError: columns are missing or of other types.
        DataError: a bad row, with REFUSE.
    """
    table = shards.read_shard(data, uri)
    bad: tuple[BadRow, ...] = ()
    if on_bad_row is OnBadRow.QUARANTINE:
        table, bad = without_bad_rows(table, dimension, side_dimension, keys=keys)
    return shards.parse_table(table, uri, dimension=dimension, side_dimension=side_dimension), bad


def without_bad_rows(
    table: pa.Table, dimension: int | None, side_dimension: int | None, *, keys: KeyType | None = None
) -> tuple[pa.Table, tuple[BadRow, ...]]:
    """The table without its unusable rows, order kept, and those rows. Columns of unusable type are not looked into.

    Where `dimension` is None the most frequent length of the vectors is the right one. `keys` says that there is a column
    `key`, without which a row is nobody's.
    """
    reasons: dict[int, str] = {}
    ids: pa.Array = pa.nulls(table.num_rows, pa.int64())
    if table.column_names.count(ID) == 1 and table.schema.field(ID).type == pa.int64():
        ids = table[ID].combine_chunks()
        valid_N = np.asarray(pc.is_valid(ids))
        _note(reasons, ~valid_N, "the id is null")
        _note(reasons, _repeated(ids.fill_null(0).to_numpy(), valid_N), "the id is that of an earlier row")
    if keys is not None:
        of_rows = plain(table[KEY])
        is_null_N = np.asarray(pc.is_null(of_rows))
        _note(reasons, is_null_N, "the key is null")
        _note(reasons, repeats_earlier(of_rows) & ~is_null_N, "the key is that of an earlier row")
    for name, wanted in ((EMBEDDING, dimension), (SIDE_INFO, side_dimension)):
        if table.column_names.count(name) == 1 and vector_columns.is_list(table.schema.field(name).type):
            _note_vectors(reasons, table[name].combine_chunks(), name, wanted)
    if not reasons:
        return table, ()
    good_N = np.ones(table.num_rows, dtype=bool)
    good_N[list(reasons)] = False
    rows = sorted(reasons)
    names = [None] * len(rows) if keys is None else shown(of_rows.take(pa.array(rows)))
    bad = tuple(
        BadRow(row=row, id=ids[row].as_py(), reason=reasons[row], key=name)
        for row, name in zip(rows, names, strict=True)
    )
    return table.filter(pa.array(good_N)), bad


def refuse_null_keys(table: pa.Table, uri: str) -> None:
    """Refuse a table whose column `key` has a null. Raises DataError: names the row."""
    if table[KEY].null_count:
        row = vector_columns.first_true(table[KEY].combine_chunks().is_null())
        raise DataError(
            f"{uri}: row {row}: the key is null; wanted a unique one for every row. Write a key, remove the row, or leave "
            "such rows out with --on-bad-row quarantine"
        )


def finite(vectors_ND: npt.NDArray[np.float32]) -> BoolArray:
    """Which rows hold finite numbers only, bool [N]; quick where all do."""
    if vectors_ND.size == 0 or (np.isfinite(vectors_ND.min()) and np.isfinite(vectors_ND.max())):
        return np.ones(len(vectors_ND), dtype=bool)
    return np.asarray(np.isfinite(vectors_ND).all(axis=1))


def not_finite(
    ids_N: npt.NDArray[np.int64],
    bad: tuple[BadRow, ...],
    good_N: BoolArray,
    made_by: str,
    uri: str,
    on_bad_row: OnBadRow,
    keys: UserIds | None = None,
) -> tuple[BadRow, ...]:
    """`bad`, and the rows among the usable ones (`ids_N`) for which a model gave numbers that are not finite.

    `keys` [N] are those of the usable rows, in a store with keys.

    Raises:
        DataError: there is one, with REFUSE.
    """
    rows_N = np.delete(np.arange(len(ids_N) + len(bad)), [unusable.row for unusable in bad])
    reason = f"{made_by} gives numbers that are NaN or infinite"
    at_N = np.flatnonzero(~good_N)
    names = [None] * len(at_N) if keys is None else texts(keys.take(pa.array(at_N)))
    found = [
        BadRow(row=int(rows_N[at]), id=int(ids_N[at]), reason=reason, key=name)
        for at, name in zip(at_N, names, strict=True)
    ]
    if found and on_bad_row is OnBadRow.REFUSE:
        raise DataError(
            f"{uri}: row {found[0].row} (id {found[0].name}): {reason} ({len(found):,} such rows); want finite vectors: mend "
            "the model or the item, or leave such rows out with --on-bad-row quarantine"
        )
    return tuple(sorted([*bad, *found], key=lambda unusable: unusable.row))


def write_list(uri: str, rows: list[tuple[int, BadRow]]) -> None:
    """Write (shard, bad row) as a Parquet file with columns `shard`, `row`, `id`, `reason`; keys are written as text."""
    has_keys = any(bad.key is not None for _, bad in rows)
    columns = {
        "shard": pa.array([shard for shard, _ in rows], pa.int64()),
        "row": pa.array([bad.row for _, bad in rows], pa.int64()),
        "id": pa.array([bad.key for _, bad in rows], pa.string())
        if has_keys
        else pa.array([bad.id for _, bad in rows], pa.int64()),
        "reason": pa.array([bad.reason for _, bad in rows], pa.string()),
    }
    pairs.write_table(uri, pa.table(columns))


def _note(reasons: dict[int, str], bad_N: BoolArray, reason: str) -> None:
    for row in np.flatnonzero(bad_N):
        reasons.setdefault(int(row), reason)


def _repeated(ids_N: npt.NDArray[np.int64], valid_N: BoolArray) -> BoolArray:
    """Rows whose id an earlier valid row has, bool [N]."""
    rows_N = np.flatnonzero(valid_N)
    order = rows_N[np.argsort(ids_N[rows_N], kind="stable")]
    repeated_N = np.zeros(len(ids_N), dtype=bool)
    repeated_N[order[1:][ids_N[order[1:]] == ids_N[order[:-1]]]] = True
    return repeated_N


def _note_vectors(reasons: dict[int, str], column: Any, name: str, wanted: int | None) -> None:
    valid_N = np.asarray(pc.is_valid(column))
    _note(reasons, ~valid_N, f"{name!r} is null")
    rows_N = np.flatnonzero(valid_N)
    if not pa.types.is_fixed_size_list(column.type) and len(rows_N):
        lengths_N = np.asarray(pc.list_value_length(column.filter(pa.array(valid_N))))
        right = wanted if wanted is not None else int(np.bincount(lengths_N).argmax())
        for row, length in zip(rows_N[lengths_N != right], lengths_N[lengths_N != right], strict=True):
            reasons.setdefault(int(row), f"{name!r} has {length} numbers, want {right}")
        rows_N = rows_N[lengths_N == right]
    if len(rows_N) == 0:
        return
    values = column.take(pa.array(rows_N)).flatten()
    with np.errstate(over="ignore"):
        numbers = pc.cast(values, pa.float32(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    good_N = finite(numbers.reshape(len(rows_N), -1))
    for row in rows_N[~good_N]:
        reasons.setdefault(int(row), f"{name!r} holds a number that is null, NaN or infinite")
