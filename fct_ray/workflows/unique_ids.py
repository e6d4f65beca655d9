"""Whether every id is in a gallery once, in bounded memory, however large the gallery is.

    shards by id range:  |---a---|  |--b--|          a range that no other touches is settled without reading anything
                              |-----c----|  |--d--|  a, b, c overlap: their id columns are read
    one task per slice:  of the ids' hashes, so that no task holds more than IDS_PER_TASK of them

Owns: that search. A billion ids whose ranges all overlap are 10 tasks of 100 million ids, about 2.5 GB each; every task
reads all id columns (8 GB) of the group. Galleries that were numbered in order need no reading at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError
from fct_ray.plan.id_ranges import overlapping
from fct_ray.shards.unique_ids import Repeated, Slice, find_repeated, first_repeated
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading
from fct_ray.storage.store import Store
from fct_ray.values import ShardRecord

IDS_PER_TASK = 100_000_000
IdArray = npt.NDArray[np.int64]


def check_unique_ids(
    store: Store,
    records: Sequence[ShardRecord],
    reading: Reading = STORE_FORMAT,
    *,
    ids_per_task: int = IDS_PER_TASK,
) -> None:
    """Refuse ids that two shards have (within a shard they were checked when it was read).

    Raises:
        DataError: names an id, its two objects, and how many such ids there are at least.
    """
    slices = [
        Slice(store_uri=store.uri, records=tuple(group), reading=reading, part=part, parts=parts)
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
    _refuse(find_repeated(parts))


def _refuse(repeated: Repeated | None) -> None:
    if repeated is not None:
        number, one, other, count = repeated
        raise DataError(
            f"id {number} is in {one} and in {other} ({count:,} such ids or more); want every id once in a store: "
            "remove the duplicates or renumber"
        )
