"""One shard on its way to another system: read from the store, written there, and a few of its rows kept to be compared.

    runs/<run id>/exported/00000.json       receipt: the shard is in the new table
    runs/<run id>/exported/00000.parquet    rows that are read back before the new table is switched to

Owns: that step, in a Ray task, and the table that is written: ids (or keys), vectors, carried columns. Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fct_ray.connectors.protocols import Destination, TargetSchema
from fct_ray.errors import FormatError
from fct_ray.key_types import KEY
from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import peak_memory_bytes, process_meter
from fct_ray.storage import documents, gallery_reader, objects, pairs, usage_records
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.shards import EMBEDDING, ID, SIDE_INFO, ShardColumns
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import vector_array
from fct_ray.values import ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedShard:
    """The receipt of a shard that is in the new table."""

    shard: int
    rows: int
    written: str
    """What the destination must know of it at the end."""
    peak_memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportJob:
    """What every task of one export is told."""

    store_uri: str
    run: str
    reading: Reading
    schema: TargetSchema
    side_dimension: int | None
    destination: Destination
    sample_rows: int


def export_shard(record: ShardRecord, job: ExportJob) -> ExportedShard:
    """Write one shard to the destination; its receipt is written last. Runs in a Ray task.

    Raises:
        StoreError: the shard cannot be read, or the other system does not take it.
    """
    meter, store = process_meter(), Store(job.store_uri)
    seen = gallery_reader.read_record(
        store,
        record,
        job.reading,
        OnBadRow.REFUSE,
        dimension=job.schema.dimension if job.reading.layout.truncate is None else None,
        side_dimension=job.side_dimension,
    )
    rows = exported_rows(seen.columns, job.schema, seen.uri)
    sample = rows.take(_spread(rows.num_rows, job.sample_rows))
    pairs.write_table(store.uri_of(sample_path(job.run, record.shard)), sample)
    written = job.destination.write(record.shard, rows)
    usage = meter.read() + Usage(bytes_read=seen.num_bytes, bytes_written=rows.nbytes, rows=rows.num_rows)
    usage_records.write_part(store, job.run, "stream", f"shard-{record.shard:05d}", usage)
    receipt = ExportedShard(
        shard=record.shard, rows=rows.num_rows, written=written, peak_memory_bytes=peak_memory_bytes()
    )
    objects.write_bytes(store.uri_of(receipt_path(job.run, record.shard)), documents.dump(receipt))
    return receipt


def exported_rows(columns: ShardColumns, schema: TargetSchema, uri: str) -> pa.Table:
    """The rows of a shard as they are written elsewhere; a carried column that this shard lacks is null there.

    Raises:
        FormatError: a carried column cannot be converted to the type that it has in the other shards.
    """
    table = columns.table
    ids = pa.array(columns.ids_N) if schema.key_type is None else table[KEY]
    arrays = []
    for field in schema.columns:
        if field.name == schema.embedding_column:
            arrays.append(vector_array(np.ascontiguousarray(columns.embeddings_ND, dtype=np.float32), "float32"))
        elif field.name == schema.row_id_column:
            arrays.append(pa.array(columns.ids_N))
        elif field.name == schema.id_column:
            arrays.append(ids.cast(field.type))
        elif field.name in table.column_names:
            arrays.append(_converted(table[field.name], field, uri))
        else:
            arrays.append(pa.nulls(table.num_rows, field.type))
    return pa.table(arrays, schema=schema.columns)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type in which values of this type are written elsewhere: without dictionaries, extensions and views."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.int64() if pa.types.is_null(kind) else kind


def carried_fields(schema: pa.Schema, *, leave_out: Sequence[str] = ()) -> list[pa.Field]:
    """The columns of a shard that are carried along: all but those of the format."""
    skipped = {ID, KEY, EMBEDDING, SIDE_INFO, *leave_out}
    return [pa.field(field.name, plain_type(field.type)) for field in schema if field.name not in skipped]


def receipt_path(run: str, shard: int) -> str:
    """Where the receipt of a shard lies in the store."""
    return f"runs/{run}/exported/{shard:05d}.json"


def sample_path(run: str, shard: int) -> str:
    """Where the rows of a shard lie that are read back."""
    return f"runs/{run}/exported/{shard:05d}.parquet"


def _spread(num_rows: int, count: int) -> pa.Array:
    return pa.array(np.unique(np.linspace(0, num_rows - 1, min(count, num_rows)).astype(np.int64)))


def _converted(column: pa.ChunkedArray, field: pa.Field, uri: str) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FormatError(
            f"{uri}: column {field.name!r} is {column.type} and cannot be written as {field.type}, as in other shards "
            f"({error!s:.200}); leave it out with --leave-out {field.name}"
        ) from error
