"""Whether every key is in a gallery once, in bounded memory: as `unique_ids` finds repeated ids, by slices of hashes.

A hundred million keys are 5 tasks of 20 million, about 1.2 GB each; every task reads all columns of keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError
from fct_ray.shards.key_lookup import KeySlice, first_repeated_key
from fct_ray.storage.key_columns import KeyColumn

KEYS_PER_TASK = 20_000_000


def check_unique_keys(shards: Sequence[KeyColumn], *, keys_per_task: int = KEYS_PER_TASK) -> None:
    """Refuse a key that two rows have, in one shard or in two; a store without keys has no columns of them to look into.

    Raises:
        DataError: names a key, the two objects and rows that have it, and how many such keys there are at least.
    """
    if not shards:
        return
    parts = -(-sum(shard.num_rows for shard in shards) // keys_per_task)
    slices = [KeySlice(shards=tuple(shards), part=part, parts=parts) for part in range(parts)]
    for _, repeated in map_tasks(first_repeated_key, slices, describe="look for repeated keys"):
        if repeated is not None:
            (one, row), (other, other_row) = repeated.places
            raise DataError(
                f"id {repeated.text} is in {one} (row {row:,}) and in {other} (row {other_row:,}; {repeated.count:,} such "
                "ids or more); want every id once in a store: remove the duplicates"
            )
