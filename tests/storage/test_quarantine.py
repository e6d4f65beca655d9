"""Which rows are bad, and that the others are untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from fct_ray.errors import DataError, FormatError
from fct_ray.kinds import OnBadRow
from fct_ray.storage import quarantine, shards
from fct_ray.values import BadRow


def _lists(rows: Sequence[Sequence[float | None] | None], kind: pa.DataType = pa.list_(pa.float32())) -> pa.Array:  # noqa: B008
    return pa.array(rows, kind)


def _table(**changes: pa.Array) -> pa.Table:
    columns = {
        "id": pa.array([10, 11, 12, 13, 14], pa.int64()),
        "embedding": _lists([[1.0, 2.0]] * 5),
        "side_info": _lists([[3.0]] * 5),
        "title": pa.array(["a", "b", "c", "d", "e"]),
    }
    return pa.table({**columns, **changes})


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"id": pa.array([10, None, 10, 13, 10])}, {1: "the id is null", 2: "earlier row", 4: "earlier row"}),
        ({"embedding": _lists([[1, 2], None, [1, 2], [1, 2, 3], [1, 2]])}, {1: "is null", 3: "has 3 numbers, want 2"}),
        ({"embedding": _lists([[1, 2], [1, np.nan], [np.inf, 1], [1, 2], [1, None]])}, {1: "NaN", 2: "NaN", 4: "NaN"}),
        ({"embedding": _lists([[1e300, 0], *[[1.0, 2.0]] * 4], pa.list_(pa.float64()))}, {0: "infinite"}),
        ({"side_info": _lists([[1], [1], [-np.inf], [1], []])}, {2: "'side_info' holds", 4: "has 0 numbers, want 1"}),
    ],
)
def test_each_kind_of_bad_row_is_left_out_and_named(changes: dict[str, pa.Array], bad: dict[int, str]) -> None:
    table = _table(**changes)
    good, found = quarantine.without_bad_rows(table, None, None)
    assert [row.row for row in found] == list(bad)
    for row in found:
        assert bad[row.row] in row.reason
        assert row.id == table["id"][row.row].as_py()
    assert good.to_pylist() == [row for at, row in enumerate(table.to_pylist()) if at not in bad]
    assert good.num_rows + len(found) == table.num_rows


def test_a_table_without_bad_rows_is_returned_as_it_is() -> None:
    table = _table()
    assert quarantine.without_bad_rows(table, 2, 1) == (table, ())


def test_fixed_size_lists_of_float16_are_looked_into_too() -> None:
    values = np.ones(10, dtype=np.float16)
    values[5] = np.nan
    kind = pa.FixedSizeListArray.from_arrays(pa.array(values), 2)
    _, found = quarantine.without_bad_rows(_table(embedding=kind), 2, 1)
    assert [row.row for row in found] == [2]


def test_refusing_names_the_row_and_quarantine_gives_the_rest() -> None:
    data = shards.encode_table(_table(embedding=_lists([[1, 2], [1, np.nan], [1, 2], [1, 2], [1, 2]])))
    with pytest.raises(DataError, match="row 1"):
        quarantine.parse_shard(data, "x", OnBadRow.REFUSE, dimension=2, side_dimension=1)
    columns, bad = quarantine.parse_shard(data, "x", OnBadRow.QUARANTINE, dimension=2, side_dimension=1)
    assert columns.ids_N.tolist() == [10, 12, 13, 14]
    assert [row.row for row in bad] == [1]


def test_a_whole_file_of_the_wrong_kind_is_refused_also_with_quarantine() -> None:
    data = shards.encode_table(_table().drop_columns(["embedding"]))
    with pytest.raises(FormatError, match="embedding"):
        quarantine.parse_shard(data, "x", OnBadRow.QUARANTINE, dimension=2, side_dimension=1)


def test_rows_for_which_a_model_fails_keep_their_positions_in_the_input() -> None:
    before = (BadRow(row=0, id=9, reason="x"), BadRow(row=2, id=11, reason="x"))
    ids_N, good_N = np.array([10, 12, 13]), np.array([True, False, True])
    bad = quarantine.not_finite(ids_N, before, good_N, "h", "uri", OnBadRow.QUARANTINE)
    assert [(row.row, row.id) for row in bad] == [(0, 9), (2, 11), (3, 12)]
    with pytest.raises(DataError, match=r"row 3 \(id 12\): h gives numbers that are NaN"):
        quarantine.not_finite(ids_N, before, good_N, "h", "uri", OnBadRow.REFUSE)
