"""What Ray tasks read from one shard or object: is it usable, which ids, some of its rows.

Owns: those tasks. Imports neither torch nor Ray Data: a process that only reads need not pay seconds for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.kinds import OnBadRow, Provenance
from fct_ray.metering.meters import process_meter
from fct_ray.plan.splits import sample_mask
from fct_ray.storage import documents, objects, quarantine, shards, vector_columns
from fct_ray.storage import pairs as parquet_files
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, ShardRecord, Usage

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """What one object holds."""

    record: ShardRecord
    """The object as a shard: its usable rows, their ids, its hash."""
    num_bad_rows: int
    dimension: int
    side_dimension: int | None
    side_dtype: str | None
    ids_not_unit: tuple[int, ...]
    """Ids of the first few rows whose vectors have neither length 1 nor length 0; none: the vectors are normalized."""
    usage: Usage


def inspect_shard(item: tuple[int, str, OnBadRow]) -> Inspected | None:
    """Hash, dimensions, id range and values of one object's usable rows; None if it is a file without any rows.

    Runs in a Ray task. Raises FormatError, DataError: it cannot be used.
    """
    meter, (shard, uri, on_bad_row) = process_meter(), item
    data = objects.read_bytes(uri)
    columns, bad = quarantine.parse_shard(data, uri, on_bad_row, dimension=None, side_dimension=None)
    rows = len(columns.ids_N)
    if rows == 0 and not bad:
        return None
    if rows == 0:
        raise FormatError(
            f"{uri}: has no usable rows among {len(bad):,}; want at least one: take the object out of the glob. Its row "
            f"{bad[0].row}: {bad[0].reason}"
        )
    record = ShardRecord(
        shard=shard,
        embeddings=ObjectRef(path=uri, bytes=len(data), sha256=documents.sha256_hex(data)),
        index=None,
        rows=rows,
        id_min=int(columns.ids_N.min()),
        id_max=int(columns.ids_N.max()),
        provenance=Provenance.EMBEDDED,
        counts={Provenance.EMBEDDED.value: rows},
    )
    return Inspected(
        record=record,
        num_bad_rows=len(bad),
        dimension=columns.embeddings_ND.shape[1],
        side_dimension=None if columns.side_info_NS is None else columns.side_info_NS.shape[1],
        side_dtype=shards.side_dtype(columns.table),
        ids_not_unit=tuple(columns.ids_N[vector_columns.without_unit_length(columns.embeddings_ND)][:3].tolist()),
        usage=meter.read() + Usage(bytes_read=len(data), rows=rows),
    )


def usable_ids(uri: str, on_bad_row: OnBadRow) -> IdArray:
    """The ids of an object's usable rows, [N]."""
    if on_bad_row is OnBadRow.REFUSE:
        return parquet_files.read_ids(uri)
    columns, _ = quarantine.parse_shard(objects.read_bytes(uri), uri, on_bad_row, dimension=None, side_dimension=None)
    return columns.ids_N


def ids_in_shard(task: tuple[ShardRecord, str, IdArray]) -> IdArray:
    """Those of the given ids that a shard has. Runs in a Ray task."""
    record, uri, ids_N = task
    return np.asarray(np.intersect1d(parquet_files.read_ids(uri, record.embeddings.bytes), ids_N))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSelection:
    """Which rows of one shard a worker picks: these ids, and `count` sampled ones."""

    store_uri: str
    embeddings: ObjectRef
    """The shard's Parquet object, of the store or adopted."""
    dimension: int
    side_dimension: int | None
    """None: the side-information is left out, also where the shard has some."""
    wanted_ids: IdArray | None
    count: int
    seed: int


def select_rows(selection: ShardSelection) -> tuple[pa.Table, Usage]:
    """Rows of one shard as (id, old, side, label), and what reading them took. Runs in a Ray task.

    Labels are whole numbers; a `label` column of another type is carried through an upgrade but judges nothing.

    Raises:
        FormatError: the object is not the one that was published: its hash differs.
    """
    meter, store = process_meter(), Store(selection.store_uri)
    data = store.read(selection.embeddings)
    columns, _ = quarantine.parse_shard(  # bad rows are no pairs; whether they are refused is the stream's to say
        data,
        store.uri_of(selection.embeddings.path),
        OnBadRow.QUARANTINE,
        dimension=selection.dimension,
        side_dimension=selection.side_dimension,
    )
    count = min(selection.count, len(columns.ids_N))  # rows that cannot be used are no sample either
    picked_N = sample_mask(columns.ids_N, count, selection.seed)
    if selection.wanted_ids is not None:
        picked_N |= np.isin(columns.ids_N, selection.wanted_ids)
    rows = np.flatnonzero(picked_N)
    picked = {"id": pa.array(columns.ids_N[rows]), "old": vectors_column(columns.embeddings_ND[rows])}
    if selection.side_dimension is not None and columns.side_info_NS is not None:
        picked["side"] = vectors_column(columns.side_info_NS[rows])
    if "label" in columns.table.column_names and pa.types.is_integer(columns.table.schema.field("label").type):
        picked["label"] = columns.table["label"].combine_chunks().cast(pa.int64()).take(pa.array(rows))
    return pa.table(picked), meter.read() + Usage(bytes_read=len(data), rows=len(rows))


def vectors_column(array_PD: FloatArray) -> pa.Array:
    """Vectors [P, D] as a column of float32 lists."""
    return pa.FixedSizeListArray.from_arrays(
        np.ascontiguousarray(array_PD, dtype=np.float32).ravel(), array_PD.shape[1]
    )
