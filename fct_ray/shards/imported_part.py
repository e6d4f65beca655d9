"""One part of a table in another system, written as a shard of a store. Runs in Ray tasks.

    part --read--> table --the rules of adopt--> columns --> Parquet object, receipt

Owns: that a part is what was planned, and what only its rows show (whether all vectors have length 1), which is kept beside
the receipt, so that a resumed run need not read the part again.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import pyarrow as pa

from fct_ray.connectors.protocols import ForeignTable, Part
from fct_ray.errors import DataError, SourceError
from fct_ray.kinds import Provenance
from fct_ray.shards.edited_shard import writer_of
from fct_ray.shards.foreign_tables import open_table
from fct_ray.shards.shard_output import OutputJob
from fct_ray.storage import documents, gallery_reader, objects, shards, vector_columns
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.shards import ShardColumns
from fct_ray.storage.store import Store
from fct_ray.values import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportJob:
    """What is the same for every part."""

    output: OutputJob
    place: str
    mark: str
    """The state of the table that was planned from."""
    reading: Reading
    dimension: int
    """Numbers of a vector as it is stored, after cutting."""
    side_dimension: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartTask:
    """A part, and the shard that it becomes."""

    part: Part
    first_id: int
    """The id of its first row, where rows have none of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartFacts:
    """What the rows of a part show."""

    id_not_unit: int | None
    """An item whose vector is not of length 1; None: all are."""


def import_part(task: PartTask, job: ImportJob) -> Usage:
    """Write the shard of one part; returns what it took.

    Raises:
        SourceError: the table was changed since the import was planned.
        FormatError, DataError: as for the objects that are adopted.
    """
    started_at, writer = time.time(), writer_of(job.output)
    table = _opened(job.place, job.mark).read(task.part)
    name = part_name(job.place, task.part)
    if table.num_rows != task.part.rows:
        raise SourceError(
            f"{name}: has {table.num_rows:,} rows, and had {task.part.rows:,} when the import was planned: the table was "
            "changed meanwhile. Run the same command again: it begins anew with the table as it is now"
        )
    columns, bad = gallery_reader.parse_object(
        table,
        name,
        job.reading.layout,
        job.reading.keys,
        task.first_id,
        job.output.on_bad_row,
        dimension=job.dimension,
        side_dimension=job.side_dimension,
    )
    not_unit_N = vector_columns.without_unit_length(columns.embeddings_ND)
    facts = PartFacts(id_not_unit=int(columns.ids_N[not_unit_N][0]) if not_unit_N.any() else None)
    objects.write_bytes(facts_uri(writer.store, job.output.run, task.part.number), documents.dump(facts))
    if not len(columns.ids_N):
        raise DataError(f"{name}: has no usable row; want at least one")
    receipt = writer.commit(
        task.part.number,
        columns.ids_N,
        columns.embeddings_ND,
        _stored(columns),
        counts={Provenance.EMBEDDED: len(columns.ids_N)},
        input_sha256=None,
        usage=Usage(bytes_read=table.nbytes),
        started_at=started_at,
        bad_rows=bad,
    )
    return receipt.usage


def part_name(place: str, part: Part) -> str:
    """What users call a part."""
    return f"{place} part {part.number} ({part.token})"


def facts_uri(store: Store, run: str, number: int) -> str:
    """Where the facts of a part are kept."""
    return store.run_uri(run, f"parts/{number:05d}.json")


def _stored(columns: ShardColumns) -> pa.Table:
    """The table of a shard: vectors of the types that a store has."""
    table = shards.with_embeddings(columns.table, columns.embeddings_ND)
    if columns.side_info_NS is None:
        return table
    position = table.schema.get_field_index(shards.SIDE_INFO)
    dtype = shards.side_dtype(table) or "float32"
    return table.set_column(position, *vector_columns.vector_column(columns.side_info_NS, shards.SIDE_INFO, dtype))


@functools.lru_cache(maxsize=1)
def _opened(place: str, mark: str) -> ForeignTable:
    """The table, in the state that was planned from; opened once in a process.

    Raises:
        SourceError: it is in another state now.
    """
    table = open_table(place)
    if table.mark != mark:
        raise SourceError(
            f"{place}: was changed since the import was planned ({mark:.100} then, {table.mark:.100} now). Run the same "
            "command again: it begins anew with the table as it is now"
        )
    return table
