"""Keys and ids of one shard, looked up in a Ray task that reads these two columns alone.

Owns: both directions, and the first repeated key among some shards. Which shards are looked into, and what becomes of keys
that none has, is decided in `workflows/keys` and `workflows/unique_keys`. Legend: N rows, K wanted keys or ids that are
found, W wanted ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.key_types import UserIds, texts
from fct_ray.plan.splits import splitmix64
from fct_ray.storage.key_columns import KeyColumn, read_keys

IdArray = npt.NDArray[np.int64]
HASH_BYTES = 16


def find_keys(shard: KeyColumn, wanted: UserIds) -> tuple[IdArray, IdArray]:
    """Which of the wanted keys a shard has: their positions among the wanted [K], and their ids [K]. Runs in a Ray task."""
    ids_N, keys = read_keys(shard)
    if len(wanted) > len(keys):
        rows = pc.index_in(wanted, value_set=keys)
        found_W = np.asarray(pc.is_valid(rows))
        return np.flatnonzero(found_W), ids_N[rows.filter(pa.array(found_W)).to_numpy()]
    positions = pc.index_in(keys, value_set=wanted)
    found_N = np.asarray(pc.is_valid(positions))
    return positions.filter(pa.array(found_N)).to_numpy().astype(np.int64), ids_N[found_N]


def find_ids(task: tuple[KeyColumn, IdArray]) -> tuple[IdArray, UserIds]:
    """Which of some ids a shard has, [K], and their keys. Runs in a Ray task."""
    shard, ids_W = task
    ids_N, keys = read_keys(shard)
    rows_K = np.flatnonzero(np.isin(ids_N, ids_W))
    return ids_N[rows_K], keys.take(pa.array(rows_K))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeySlice:
    """The keys of some shards whose hash lies in one of `parts` equal parts of its range."""

    shards: tuple[KeyColumn, ...]
    part: int
    parts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedKey:
    """A key, two places (object, row of the shard) that have it, and how many keys there are more than once."""

    text: str
    places: tuple[tuple[str, int], tuple[str, int]]
    count: int


def first_repeated_key(slice_: KeySlice) -> RepeatedKey | None:
    """A key that two rows of some shards have; None if there is none. Runs in a Ray task.

    Memory: 28 bytes for a key of the slice, however long keys are, and the keys of one shard. Where two hashes are equal
    the keys themselves are compared.
    """
    hashes, owners, rows = [], [], []
    for number, shard in enumerate(slice_.shards):
        hash_N2 = _hashes(read_keys(shard)[1])
        mine_N = np.flatnonzero(hash_N2[:, 0] % np.uint64(slice_.parts) == slice_.part)
        hashes.append(hash_N2[mine_N])
        owners.append(np.full(len(mine_N), number, np.int32))
        rows.append(mine_N)
    every_N2, owner_N, row_N = np.concatenate(hashes), np.concatenate(owners), np.concatenate(rows)
    order = np.lexsort((row_N, owner_N, every_N2[:, 1], every_N2[:, 0]))
    twice = np.flatnonzero((every_N2[order][1:] == every_N2[order][:-1]).all(axis=1))
    for at in twice:
        places = [(slice_.shards[owner_N[row]], int(row_N[row])) for row in (order[at], order[at + 1])]
        one, other = (read_keys(shard)[1][row] for shard, row in places)
        if one == other:
            (first, first_row), (second, second_row) = places
            return RepeatedKey(
                text=texts(pa.array([one.as_py()], one.type))[0],
                places=((first.uri, first_row), (second.uri, second_row)),
                count=len(twice),
            )
    return None


def _hashes(keys: UserIds) -> npt.NDArray[np.uint64]:
    """128 bits of each key, [N, 2]: of UUIDs themselves (mixed, as their bits are not even), of others BLAKE2b."""
    if pa.types.is_fixed_size_binary(keys.type):
        raw_N2 = np.frombuffer(b"".join(keys.to_pylist()), dtype=np.uint64).reshape(-1, 2)
        return np.stack([splitmix64(raw_N2[:, 0] ^ splitmix64(raw_N2[:, 1])), raw_N2[:, 1]], axis=1)
    content = keys.cast(pa.large_binary()).to_pylist()
    digests = b"".join(hashlib.blake2b(key, digest_size=HASH_BYTES).digest() for key in content)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
