"""The rows of one stored shard of which a map would be least certain. Runs in a Ray task.

Owns: reading the shard and the rows that come back: ids and numbers, never vectors. Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import process_meter
from fct_ray.models.uncertainty import Uncertainty, least_certain
from fct_ray.storage import quarantine
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, Usage

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class UncertainRows:
    """Rows above a threshold, ascending by id, and what finding them took."""

    ids_N: IdArray
    variance_N: npt.NDArray[np.float64]
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
    """Rows of this variance or more come back."""
    most: int
    """At most so many of a shard do: those of highest variance."""
    known_ids: IdArray
    """Ascending: these never do."""


def uncertain_rows(shard: ObjectRef, search: UncertaintySearch) -> UncertainRows:
    """The least certain rows of one shard; rows that cannot be used are never among them.

    Raises:
        FormatError: the object is not the one that was published: its hash differs.
    """
    meter, store = process_meter(), Store(search.store_uri)
    data = store.read(shard)
    columns, _ = quarantine.parse_shard(
        data,
        store.uri_of(shard.path),
        OnBadRow.QUARANTINE,
        dimension=search.dimension,
        side_dimension=search.side_dimension,
    )
    side_NS = columns.side_info_NS if search.side_dimension is not None else None
    variance_N = search.uncertainty(columns.embeddings_ND, side_NS)
    found_N = (variance_N >= search.above) & ~np.isin(columns.ids_N, search.known_ids)
    ids_N, variance_N = columns.ids_N[found_N], variance_N[found_N]
    chosen = least_certain(ids_N, variance_N, search.most)
    order = np.argsort(ids_N, kind="stable")
    rows = order[np.searchsorted(ids_N, chosen, sorter=order)]
    return UncertainRows(ids_N=chosen, variance_N=variance_N[rows], usage=meter.read() + Usage(bytes_read=len(data)))
