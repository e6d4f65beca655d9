"""What objects that somebody else wrote hold, seen once by a Ray task before a store refers to them or copies them.

Owns: the facts about one future shard. Imports neither torch nor Ray Data: a process that only reads need not pay for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY
from fct_ray.kinds import KeyType, OnBadRow, Provenance
from fct_ray.metering.meters import process_meter
from fct_ray.plan.portions import Portion
from fct_ray.shards.portions import joined_ref, shard_tables
from fct_ray.storage import gallery_reader, parquet_parts, shards, vector_columns
from fct_ray.storage.adopted_tables import is_plain, keys_in
from fct_ray.storage.shards import ShardColumns
from fct_ray.values import AdoptedLayout, BadRow, ObjectRef, RowGroups, ShardRecord, Usage

IdArray = npt.NDArray[np.int64]
_NAMED = 3
_OF_THE_FORMAT = {shards.ID, shards.EMBEDDING, shards.SIDE_INFO, KEY}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """What one future shard holds."""

    record: ShardRecord
    """The shard: its usable rows, their ids (from 0 on, where rows are numbered), a hash of what it was read from."""
    num_bad_rows: int
    dimension: int
    """Numbers of a vector as they lie in the objects, before any is cut."""
    side_dimension: int | None
    side_dtype: str | None
    ids_not_unit: tuple[int, ...]
    """Ids of the first few rows whose vectors have neither length 1 nor length 0; none: the vectors are normalized."""
    keys: KeyType | None
    """What the items are called by; None: by whole numbers, or by their position."""
    carried: tuple[tuple[str, str], ...]
    """Names and types of the other columns."""
    plain: bool
    """Whether all of it is in the format that needs no layout to be read."""
    in_place: bool
    """Whether a manifest can point at it: it is one object, or some row groups of one."""
    usage: Usage

    @property
    def num_rows(self) -> int:
        """All rows, usable or not."""
        return self.record.rows + self.num_bad_rows


def row_groups_of(uri: str) -> list[RowGroups]:
    """The row groups of a large object. Runs in a Ray task. Raises FormatError."""
    return parquet_parts.row_groups(uri)


def inspect_portion(portion: Portion, layout: AdoptedLayout, on_bad_row: OnBadRow) -> list[Inspected]:
    """Hashes, dimensions, id ranges and values of each shard that a portion becomes; none for objects without any rows.

    Shards are numbered from 0. Runs in a Ray task.

    Raises:
        FormatError: columns are missing or cannot be used, or no row can.
        DataError: a row that cannot be used, with `OnBadRow.REFUSE`.
    """
    found: list[Inspected] = []
    for tables in shard_tables(portion):
        meter, parsed, keys, first_id = process_meter(), [], None, 0
        for table, ref in tables:
            keys = keys_in(table.schema, layout, ref.path) if not parsed else keys
            columns, bad = gallery_reader.parse_object(
                table,
                ref.path,
                replace(layout, truncate=None),
                keys,
                first_id,
                on_bad_row,
                dimension=next((seen.embeddings_ND.shape[1] for seen, _, _ in parsed if len(seen.ids_N)), None),
                side_dimension=None,
            )
            first_id += table.num_rows
            if len(columns.ids_N) == 0 and bad and len(tables) == 1:
                raise FormatError(
                    f"{ref.path}: has no usable rows among {len(bad):,}; want at least one: take the object out of the glob. "
                    f"Its row {bad[0].row}: {bad[0].reason}"
                )
            if table.num_rows:
                parsed.append((columns, bad, is_plain(table.schema)))
        if parsed:
            ref, read = joined_ref([ref for _, ref in tables]), sum(ref.bytes for _, ref in tables)
            seen = _facts(len(found), ref, parsed, keys, meter.read() + Usage(bytes_read=read))
            found.append(replace(seen, in_place=portion.in_place))
    return found


def _facts(
    shard: int,
    ref: ObjectRef,
    parsed: list[tuple[ShardColumns, tuple[BadRow, ...], bool]],
    keys: KeyType | None,
    used: Usage,
) -> Inspected:
    usable = [columns for columns, _, _ in parsed if len(columns.ids_N)]
    if not usable:
        raise FormatError(f"{ref.path} and the objects after it have no usable rows; want at least one: take them out")
    first = usable[0]
    of_each = [(columns.embeddings_ND.shape[1], _side_of(columns)) for columns in usable]
    if len(set(of_each)) > 1:
        raise FormatError(
            f"{ref.path} and the objects after it have vectors of (dimension, (side dimension, side dtype)) {of_each[0]} and "
            f"{next(other for other in of_each if other != of_each[0])}: one store holds one kind of embedding"
        )
    ids_N = np.concatenate([columns.ids_N for columns in usable])
    not_unit = [columns.ids_N[vector_columns.without_unit_length(columns.embeddings_ND)] for columns in usable]
    record = ShardRecord(
        shard=shard,
        embeddings=ref,
        index=None,
        rows=len(ids_N),
        id_min=int(ids_N.min()),
        id_max=int(ids_N.max()),
        provenance=Provenance.EMBEDDED,
        counts={Provenance.EMBEDDED.value: len(ids_N)},
    )
    return Inspected(
        record=record,
        num_bad_rows=sum(len(bad) for _, bad, _ in parsed),
        dimension=first.embeddings_ND.shape[1],
        side_dimension=None if first.side_info_NS is None else first.side_info_NS.shape[1],
        side_dtype=shards.side_dtype(first.table),
        ids_not_unit=tuple(np.concatenate(not_unit)[:_NAMED].tolist()),
        keys=keys,
        carried=tuple(sorted({field for columns, _, _ in parsed for field in _carried(columns)})),
        plain=all(plain for _, _, plain in parsed),
        in_place=True,
        usage=used + Usage(rows=len(ids_N)),
    )


def _carried(columns: ShardColumns) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in columns.table.schema if field.name not in _OF_THE_FORMAT]


def _side_of(columns: ShardColumns) -> tuple[int | None, str | None]:
    side_NS = columns.side_info_NS
    return None if side_NS is None else side_NS.shape[1], shards.side_dtype(columns.table)


def usable_ids(portion: Portion, layout: AdoptedLayout, keys: KeyType | None, on_bad_row: OnBadRow) -> list[IdArray]:
    """The ids of the usable rows of each shard that a portion becomes, [N] each. Runs in a Ray task."""
    if on_bad_row is OnBadRow.REFUSE and portion.in_place:
        piece = portion.pieces[0]
        return [gallery_reader.object_ids(piece.uri, piece.rows, piece.byte_range, layout)]
    return [
        np.concatenate(
            [
                gallery_reader.parse_object(
                    table, ref.path, layout, keys, 0, on_bad_row, dimension=None, side_dimension=None
                )[0].ids_N
                for table, ref in tables
                if table.num_rows
            ]
        )
        for tables in shard_tables(portion)
    ]
