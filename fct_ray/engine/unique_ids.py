"""Whether every id is in a gallery once, in bounded memory, however large the gallery is.

    shards by id range:  |---a---|  |--b--|          a range that no other touches is settled without reading anything
                              |-----c----|  |--d--|  a, b, c overlap: their id columns are read
    one task per slice:  of the ids' hashes, so that no task holds more than IDS_PER_TASK of them

Owns: that search. A billion ids whose ranges all overlap are 10 tasks of 100 million ids, about 2.5 GB each; every task
reads all id columns (8 GB) of the group. Galleries that were numbered in order need no reading at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError
from fct_ray.plan.splits import unit_hash
from fct_ray.storage import pairs as parquet_files
from fct_ray.storage.store import Store
from fct_ray.values import ShardRecord

IDS_PER_TASK = 100_000_000
IdArray = npt.NDArray[np.int64]
Repeated = tuple[int, str, str, int]
"""An id, two places where it is, and how many ids are there more than once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The ids of some objects whose hash lies in one of `parts` equal parts of its range."""

    uris: tuple[str, ...]
    part: int
    parts: int


def check_unique_ids(store: Store, records: Sequence[ShardRecord], *, ids_per_task: int = IDS_PER_TASK) -> None:
    """Refuse ids that two shards have (within a shard they were checked when it was read).

    Raises:
        DataError: names an id, its two objects, and how many such ids there are at least.
    """
    slices = [
        Slice(uris=tuple(store.uri_of(record.embeddings.path) for record in group), part=part, parts=parts)
        for group in overlapping(records)
        for parts in [-(-sum(record.rows for record in group) // ids_per_task)]
        for part in range(parts)
    ]
    if not slices:
        return
    for _, repeated in map_tasks(first_repeated, slices, describe="ids of overlapping shards"):
        _refuse(repeated)


def refuse_repeated(parts: Sequence[tuple[str, IdArray]]) -> None:
    """Refuse an id that two of these (name, ids) have, or one twice. Raises DataError."""
    _refuse(_first_repeated(parts))


def _refuse(repeated: Repeated | None) -> None:
    if repeated is not None:
        number, one, other, count = repeated
        raise DataError(
            f"id {number} is in {one} and in {other} ({count:,} such ids or more); want every id once in a store: "
            "remove the duplicates or renumber"
        )


def overlapping(records: Sequence[ShardRecord]) -> list[list[ShardRecord]]:
    """Groups of shards whose id ranges touch, directly or through others; shards that touch none are left out."""
    groups: list[list[ShardRecord]] = []
    highest = 0
    for record in sorted(records, key=lambda record: record.id_min):
        if groups and record.id_min <= highest:
            groups[-1].append(record)
            highest = max(highest, record.id_max)
        else:
            groups.append([record])
            highest = record.id_max
    return [group for group in groups if len(group) > 1]


def first_repeated(ids: Slice) -> Repeated | None:
    """(id, object, other object, how many) of the ids that two objects share, or None. Runs in a Ray task."""
    parts = []
    for uri in ids.uris:
        ids_N = parquet_files.read_ids(uri)
        if ids.parts > 1:
            ids_N = ids_N[(unit_hash(ids_N, "unique") * ids.parts).astype(np.int64) == ids.part]
        parts.append((uri, ids_N))
    return _first_repeated(parts)


def _first_repeated(parts: Sequence[tuple[str, IdArray]]) -> Repeated | None:
    ids_N = np.concatenate([part_N for _, part_N in parts])
    owners_N = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part_N) for _, part_N in parts])
    order = np.argsort(ids_N, kind="stable")
    twice = np.flatnonzero(ids_N[order][1:] == ids_N[order][:-1])
    if len(twice) == 0:
        return None
    first, second = order[twice[0]], order[twice[0] + 1]
    return int(ids_N[first]), parts[owners_N[first]][0], parts[owners_N[second]][0], len(twice)
