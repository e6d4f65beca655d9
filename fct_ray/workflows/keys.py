"""From the ids that users have to the int64 ids that everything inside works with, and back.

    file, command line, program --> UserIds --ids_of--> int64     pairs, queries, deletions
                                    UserIds <--user_ids-- int64   wanted ids, quarantined rows, messages

In a store without keys both are the same numbers. Else the columns of keys are read, shard by shard, by Ray tasks that read
nothing else; a task has one shard's keys and the wanted ones in memory.

Owns: these two ways. Searchers, which have no cluster, look keys up by themselves (`found_keys`). Legend: N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError, StoreError
from fct_ray.key_types import KEY_TYPES, UserIds, texts
from fct_ray.shards.key_lookup import find_ids, find_keys
from fct_ray.storage import keys
from fct_ray.storage.key_columns import KeyColumn, key_columns
from fct_ray.storage.store import Store
from fct_ray.values import Manifest

IdArray = npt.NDArray[np.int64]
NOT_THERE = -1
"""In place of the id of a key that a store does not have; a store with keys counts its ids from 0."""
NUM_NAMED = 5
"""How many ids a message names."""


def ids_of(store: Store, manifest: Manifest, given: UserIds, named: str) -> IdArray:
    """The ids [N] of items that a file names; `named` begins what errors say about them.

    Whether a store without keys has them is not looked up here.

    Raises:
        FormatError: they are of another type than the store's ids.
        DataError: keys that the store does not have; the message shows how many and which.
    """
    ids_N = ids_or_none(store, manifest, given, named)
    if manifest.keys is not None and (ids_N == NOT_THERE).any():
        missing = keys.as_stored(given, manifest.keys, named).filter(pa.array(ids_N == NOT_THERE))
        raise DataError(not_in_store(missing, len(ids_N), named))
    return ids_N


def ids_or_none(store: Store, manifest: Manifest, given: UserIds, named: str) -> IdArray:
    """The ids [N] of items, NOT_THERE for keys that the version does not have. Raises FormatError, like `ids_of`."""
    wanted = keys.as_stored(given, manifest.keys, named)
    if manifest.keys is None:
        return np.asarray(wanted.to_numpy(), dtype=np.int64)
    unique = wanted.unique()
    ids_U = np.full(len(unique), NOT_THERE, np.int64)
    shards = key_columns(store, manifest) if len(unique) else []
    for _, (positions_K, ids_K) in map_tasks(find_keys, shards, unique, describe="look up keys", name=_shard_name):
        ids_U[positions_K] = ids_K
    return np.asarray(ids_U[wanted.dictionary_encode().indices.to_numpy()])


def user_ids(store: Store, manifest: Manifest, ids_N: IdArray) -> UserIds:
    """The ids of items as their users have them, in the order asked for: int64, or keys.

    Raises:
        StoreError: the version does not have one of these items.
    """
    if manifest.keys is None:
        return pa.array(ids_N, pa.int64())
    tasks = [
        (shard, wanted_K)
        for shard in key_columns(store, manifest)
        if len(wanted_K := ids_N[(ids_N >= shard.id_min) & (ids_N <= shard.id_max)])
    ]
    found = [(ids_N[:0], pa.array([], KEY_TYPES[manifest.keys]))]
    found += [
        part for _, part in map_tasks(find_ids, tasks, describe="look up keys", name=lambda task: _shard_name(task[0]))
    ]
    known_K, of_known = np.concatenate([part[0] for part in found]), pa.concat_arrays([part[1] for part in found])
    order = np.argsort(known_K, kind="stable")
    at_N = np.minimum(np.searchsorted(known_K, ids_N, sorter=order), max(0, len(order) - 1))
    if len(ids_N) and (len(order) == 0 or (known_K[order[at_N]] != ids_N).any()):
        raise StoreError(
            f"version {manifest.version} of {store.uri} does not have all of {len(ids_N):,} items that it should have: "
            "check it with `fct-ray store verify`"
        )
    return of_known.take(pa.array(order[at_N]))


def not_in_store(missing: UserIds | Sequence[int], total: int, uri: str) -> str:
    """What an error says about ids of a file that the store does not have."""
    first = texts(missing.slice(0, NUM_NAMED)) if isinstance(missing, pa.Array) else map(str, missing[:NUM_NAMED])
    return (
        f"{uri}: {len(missing):,} of {total:,} ids are not in the store (for example {', '.join(first)}); want only ids of "
        "the store: name items of this gallery, or take the others out of the file"
    )


def _shard_name(shard: KeyColumn) -> str:
    return f"shard {shard.shard}"
