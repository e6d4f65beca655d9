"""Shards that are copies of what lies elsewhere, because no manifest could point at it: many small objects, slices of one.

    1,000 objects of a few rows    one shard     carried columns of all; null where an object has none
    a row group of 5 GB            40 shards     one of them in memory at a time

Owns: putting the rows of several tables together. `edited_shard` writes them. Runs in Ray tasks. Legend: N rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.plan.portions import Portion
from fct_ray.shards.edited_shard import EditJob, commit_rows, writer_of
from fct_ray.shards.portions import shard_tables
from fct_ray.storage import gallery_reader, shards
from fct_ray.storage.shards import SIDE_INFO, ShardColumns
from fct_ray.storage.vector_columns import vector_column
from fct_ray.values import ShardRecord, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyTask:
    """A portion, and the shards that it becomes; `id_min` of each is where rows without ids are numbered from."""

    portion: Portion
    records: tuple[ShardRecord, ...]
    todo: frozenset[int]
    """The shards that are not written yet."""


def write_copies(task: CopyTask, job: EditJob) -> Usage:
    """Write the shards that a portion becomes, with the same checks as those of any other object.

    Raises:
        FormatError: carried columns of one name cannot be put together.
        DataError: a row that cannot be used, where those are refused.
    """
    used, writer, started_at = Usage(), writer_of(job.output), time.time()
    for record, tables in zip(task.records, shard_tables(task.portion), strict=True):
        if record.shard not in task.todo:
            continue
        parsed, bad, rows = [], [], 0
        for table, ref in tables:
            if table.num_rows == 0:
                continue
            columns, unusable = gallery_reader.parse_object(
                table,
                ref.path,
                job.reading.layout,
                job.reading.keys,
                record.id_min + rows,
                job.output.on_bad_row,
                dimension=job.output.dimension if job.through is None else job.through.old_dimension,
                side_dimension=job.side_dimension,
            )
            if len(columns.ids_N):
                parsed.append(columns)
            bad += [replace(one, row=one.row + rows) for one in unusable]
            rows += table.num_rows
        together = joined(parsed, record.embeddings.path)
        used += commit_rows(writer, record, together, tuple(bad), record.embeddings.bytes, job, started_at)
        started_at = time.time()
    return used


def joined(parts: Sequence[ShardColumns], uri: str) -> ShardColumns:
    """The rows of several tables in one: numbers of different widths in the wider type, what cannot be joined as text.

    Raises:
        FormatError: columns of one name have types that are not even text alike.
    """
    if len(parts) == 1:
        return parts[0]
    embeddings_ND = np.concatenate([part.embeddings_ND for part in parts])
    sides = [part.side_info_NS for part in parts if part.side_info_NS is not None]
    table = _concatenated([shards.with_embeddings(part.table, part.embeddings_ND) for part in parts], uri)
    side_NS = np.concatenate(sides) if sides else None
    if side_NS is not None:  # int8 has a scale for each column
        position = table.schema.get_field_index(SIDE_INFO)
        table = table.set_column(position, *vector_column(side_NS, SIDE_INFO, shards.side_dtype(table) or "float32"))
    ids_N = shards.ids_of(table, uri)
    return ShardColumns(ids_N=ids_N, embeddings_ND=embeddings_ND, side_info_NS=side_NS, table=table)


def _concatenated(tables: Sequence[pa.Table], uri: str) -> pa.Table:
    types: dict[str, set[pa.DataType]] = {}
    for field in (field for table in tables for field in table.schema):
        types.setdefault(field.name, set()).add(field.type)
    apart = {name for name, kinds in types.items() if not _go_together(name, kinds)}
    try:
        alike = [_as_text(table, apart) if apart else table for table in tables]
        return pa.concat_tables(alike, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise FormatError(
            f"{uri} and the objects after it: carried columns of one name have types that do not go together "
            f"({error!s:.300}); write them with one type each, or drop them"
        ) from error


def _go_together(name: str, kinds: set[pa.DataType]) -> bool:
    """Whether there is a type for all of these: the wider of two numbers, say."""
    try:
        pa.unify_schemas([pa.schema([(name, kind)]) for kind in kinds], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for position, field in enumerate(table.schema):
        if field.name in names and not pa.types.is_nested(field.type):
            table = table.set_column(position, field.with_type(pa.string()), table.column(position).cast(pa.string()))
    return table
