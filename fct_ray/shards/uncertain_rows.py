"""The rows of one stored shard that are drawn by how uncertain a map would be of them. Runs in a Ray task.

Owns: reading the shard, the hash of ids that draws, and the rows that come back: ids and numbers, never vectors. Legend:
N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import process_meter
from fct_ray.models.uncertainty import Uncertainty, drawing_keys, highest
from fct_ray.plan.splits import unit_hash
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading, read_record
from fct_ray.storage.store import Store
from fct_ray.values import ShardRecord, Usage

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class UncertainRows:
    """Rows above a threshold, ascending by id, and what finding them took."""

    ids_N: IdArray
    keys_N: npt.NDArray[np.float64]
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class UncertaintySearch:
    """What is the same for all shards."""

    store_uri: str
    dimension: int
    side_dimension: int | None
    """None: side-information is not read."""
    uncertainty: Uncertainty
    above: float
    """Rows with this key or a higher one come back."""
    most: int
    """At most so many of a shard do: those with the highest keys."""
    seed: int
    known_ids: IdArray
    """Ascending: these never do."""
    reading: Reading = STORE_FORMAT
    """How the shards are read."""


def uncertain_rows(record: ShardRecord, search: UncertaintySearch) -> UncertainRows:
    """The rows of one shard that may be drawn; rows that cannot be used are never among them.

    Raises:
        FormatError: the object is not the one that was published: its hash differs.
    """
    meter, store = process_meter(), Store(search.store_uri)
    seen = read_record(
        store,
        record,
        search.reading,
        OnBadRow.QUARANTINE,
        dimension=search.dimension,
        side_dimension=search.side_dimension,
    )
    columns = seen.columns
    side_NS = columns.side_info_NS if search.side_dimension is not None else None
    keys_N = keys_of(columns.ids_N, columns.embeddings_ND, side_NS, search.uncertainty, search.seed)
    found_N = (keys_N >= search.above) & ~np.isin(columns.ids_N, search.known_ids)
    ids_N, keys_N = columns.ids_N[found_N], keys_N[found_N]
    chosen = highest(ids_N, keys_N, search.most)
    order = np.argsort(ids_N, kind="stable")
    rows = order[np.searchsorted(ids_N, chosen, sorter=order)]
    return UncertainRows(ids_N=chosen, keys_N=keys_N[rows], usage=meter.read() + Usage(bytes_read=seen.num_bytes))


def keys_of(
    ids_N: IdArray,
    old_NO: npt.NDArray[np.float32],
    side_NS: npt.NDArray[np.float32] | None,
    uncertainty: Uncertainty,
    seed: int,
) -> npt.NDArray[np.float64]:
    """By which key each item is drawn, [N]: the same wherever the item lies."""
    return drawing_keys(uncertainty(old_NO, side_NS), unit_hash(ids_N, f"refine:{seed}"))
