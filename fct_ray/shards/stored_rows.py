"""What Ray tasks read from one stored shard: which ids it has, some of its rows.

Owns: those tasks. Imports neither torch nor Ray Data: a process that only reads need not pay seconds for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import process_meter
from fct_ray.plan.splits import sample_mask
from fct_ray.storage import gallery_reader
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, ShardRecord, Usage

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]


def ids_in_shard(task: tuple[ShardRecord, str, IdArray], reading: Reading = STORE_FORMAT) -> IdArray:
    """Those of the given ids that a shard (of the store at this URI) has. Runs in a Ray task."""
    record, store_uri, ids_N = task
    return np.asarray(np.intersect1d(gallery_reader.read_ids(Store(store_uri), record, reading), ids_N))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSelection:
    """Which rows of one shard a worker picks: these ids, and `count` sampled ones."""

    store_uri: str
    embeddings: ObjectRef
    """The shard's Parquet object, of the store or adopted."""
    reading: Reading = STORE_FORMAT
    first_id: int = 0
    """The smallest id of the shard, from which rows without ids of their own are numbered."""
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
    seen = gallery_reader.read_rows(
        store,
        selection.embeddings,
        selection.reading,
        selection.first_id,
        OnBadRow.QUARANTINE,  # bad rows are no pairs; whether they are refused is the stream's to say
        dimension=selection.dimension,
        side_dimension=selection.side_dimension,
    )
    columns = seen.columns
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
    return pa.table(picked), meter.read() + Usage(bytes_read=seen.num_bytes, rows=len(rows))


def vectors_column(array_PD: FloatArray) -> pa.Array:
    """Vectors [P, D] as a column of float32 lists."""
    return pa.FixedSizeListArray.from_arrays(
        np.ascontiguousarray(array_PD, dtype=np.float32).ravel(), array_PD.shape[1]
    )
