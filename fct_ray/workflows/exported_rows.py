"""Reading back what was exported: all rows are counted, some of every shard are fetched and compared.

Owns: what is compared, and the words where something differs. Legend: N rows, D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.connectors.protocols import Destination, TargetSchema
from fct_ray.errors import DataError, IncompleteRunError
from fct_ray.key_types import texts
from fct_ray.shards.exported_shard import ExportedShard, sample_path
from fct_ray.storage import objects
from fct_ray.storage.parquet_tables import read_parquet_bytes
from fct_ray.storage.store import Store

ROWS_AT_ONCE = 1000
"""Rows that are asked for together."""
_RELATIVE, _ABSOLUTE = 1e-6, 1e-7
"""By how much a float32 may differ after it was written as text, for example."""


def check_exported(
    store: Store,
    run: str,
    destination: Destination,
    schema: TargetSchema,
    receipts: Sequence[ExportedShard],
    place: str,
) -> int:
    """Compare the new table with the samples that the shards left; returns how many rows were compared.

    Raises:
        IncompleteRunError: the new table has another number of rows.
        DataError: a row is missing or differs.
    """
    counted, wanted = destination.count(), sum(receipt.rows for receipt in receipts)
    if counted != wanted:
        raise IncompleteRunError(
            f"{place}: the new table has {counted:,} rows, want {wanted:,}: somebody else wrote to it, or deleted rows. "
            "Nothing was switched; drop the new table, and run the same command again"
        )
    num_compared, waiting, num_waiting = 0, [], 0
    for position, receipt in enumerate(receipts):
        uri = store.uri_of(sample_path(run, receipt.shard))
        waiting.append(read_parquet_bytes(objects.read_bytes(uri), uri).cast(schema.columns))
        num_waiting += waiting[-1].num_rows
        if num_waiting >= ROWS_AT_ONCE or position == len(receipts) - 1:
            expected = pa.concat_tables(waiting).combine_chunks()
            compare(destination.fetch(expected[schema.id_column].combine_chunks()), expected, schema, place)
            num_compared, waiting, num_waiting = num_compared + num_waiting, [], 0
    return num_compared


def compare(fetched: pa.Table, expected: pa.Table, schema: TargetSchema, place: str) -> None:
    """Raise DataError if the rows that were fetched are not those that were expected, in whatever order."""
    name = schema.id_column
    fetched = fetched.set_column(
        fetched.schema.get_field_index(name),
        expected.schema.field(name),
        fetched[name].cast(expected.schema.field(name).type),
    )
    fetched, expected = (table.take(pc.sort_indices(table[name])) for table in (fetched, expected))
    if not fetched[name].equals(expected[name]):
        missing = expected[name].filter(pc.invert(pc.is_in(expected[name], fetched[name].combine_chunks())))
        shown = ", ".join(texts(missing.combine_chunks().slice(0, 3))) or "some are there more than once"
        raise _differs(place, f"{expected.num_rows} rows were asked for and {fetched.num_rows} came; missing: {shown}")
    for field in expected.schema:
        if field.name == name or field.name not in fetched.column_names:
            continue
        differs_N = (
            _vectors_differ(fetched[field.name], expected[field.name])
            if field.name == schema.embedding_column
            else _values_differ(fetched[field.name], expected[field.name])
        )
        if differs_N.any():
            row = int(np.argmax(differs_N))
            which = texts(expected[name].combine_chunks().slice(row, 1))[0]
            raise _differs(
                place, f"column {field.name!r} of item {which} differs ({int(differs_N.sum())} items in all)"
            )


def _vectors_differ(fetched: pa.ChunkedArray, expected: pa.ChunkedArray) -> np.ndarray:
    got_ND, want_ND = (
        np.asarray(column.combine_chunks().flatten(), dtype=np.float32).reshape(len(expected), -1)
        for column in (fetched, expected)
    )
    return np.asarray(~np.isclose(got_ND, want_ND, rtol=_RELATIVE, atol=_ABSOLUTE).all(axis=1))


def _values_differ(fetched: pa.ChunkedArray, expected: pa.ChunkedArray) -> np.ndarray:
    got = fetched.cast(expected.type).to_pylist() if fetched.type != expected.type else fetched.to_pylist()
    return np.array([repr(one) != repr(other) for one, other in zip(got, expected.to_pylist(), strict=True)])


def _differs(place: str, what: str) -> DataError:
    return DataError(
        f"{place}: what was read back is not what was written: {what}. Nothing was switched. Drop the new table, and run the "
        "same command again"
    )
