"""Keys of what a search found, or values of another column, without a cluster: read when first needed, and kept.

    ids [Q, K] --> shards whose id ranges hold them --> their ids and keys (of S3 objects these columns alone) --> keys

Owns: what is kept, up to a number of bytes: what was not used for longest goes first. Shards are read by several threads.
Legend: Q queries, K results, N rows of a shard, U ids that differ.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY_TYPES, UserIds
from fct_ray.storage.key_columns import KeyColumn, key_columns, read_keys
from fct_ray.storage.store import Store
from fct_ray.values import Manifest

IdArray = npt.NDArray[np.int64]
KEPT_BYTES = 1 << 30
"""26 million UUIDs with their ids."""
THREADS = 8
NOT_FOUND = -1
"""What an index gives in place of an id where it found nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardKeys:
    """The keys of one shard."""

    ids_N: IdArray
    """Ascending."""
    keys: UserIds
    """In the order of the ids."""

    @property
    def num_bytes(self) -> int:
        """What they take in memory."""
        return self.ids_N.nbytes + int(self.keys.nbytes)


class FoundValues:
    """The values of one column of a version's items, by id; several threads may ask at once."""

    def __init__(self, shards: Sequence[KeyColumn], version: int, *, kept_bytes: int = KEPT_BYTES) -> None:
        """Nothing is read yet."""
        self.version, self.kept_bytes = version, kept_bytes
        self.shards = sorted(shards, key=lambda shard: shard.id_min)
        self._kept: OrderedDict[int, ShardKeys] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, ids: IdArray) -> UserIds:
        """The values of these ids, flat and in order; null where an id is NOT_FOUND.

        Raises:
            NotFoundError, FormatError: a column of keys cannot be read, or does not have an id of the index.
        """
        flat = np.asarray(ids, dtype=np.int64).ravel()
        unique_U, inverse = np.unique(flat[flat != NOT_FOUND], return_inverse=True)
        wanted = [
            (shard, low, high)
            for shard in self.shards
            for low, high in [np.searchsorted(unique_U, [shard.id_min, shard.id_max + 1])]
            if high > low
        ]
        parts: list[UserIds] = []
        place_U = np.full(len(unique_U), -1, np.int64)
        num_before = 0
        for (_, low, high), known in zip(wanted, self._read([shard for shard, _, _ in wanted]), strict=True):
            asked = unique_U[low:high]
            rows = np.minimum(np.searchsorted(known.ids_N, asked), len(known.ids_N) - 1)
            there = known.ids_N[rows] == asked  # ranges of ids may overlap: another shard may have the others
            place_U[np.arange(low, high)[there]] = num_before + np.arange(int(there.sum()))
            parts.append(known.keys.take(pa.array(rows[there])))
            num_before += int(there.sum())
        if (place_U < 0).any():
            raise FormatError(
                f"version {self.version}: its index has the id {unique_U[place_U < 0][0]}, and no shard a row for it: check "
                "the version with `fct-ray store verify`"
            )
        places = np.zeros(len(flat), np.int64)
        places[flat != NOT_FOUND] = place_U[inverse]
        if not parts:
            return pa.nulls(len(flat), self._empty_type())
        return _joined(parts).take(pa.array(places, mask=flat == NOT_FOUND))

    def _empty_type(self) -> Any:
        """The type of nulls where nothing was found at all."""
        kinds = {shard.key_type for shard in self.shards}
        return next((KEY_TYPES[kind] for kind in kinds if kind is not None), pa.null())

    def _read(self, shards: list[KeyColumn]) -> list[ShardKeys]:
        with self._lock:
            found = {shard.shard: self._kept.get(shard.shard) for shard in shards}
            for number, known in found.items():
                if known is not None:
                    self._kept.move_to_end(number)
        missing = [shard for shard in shards if found[shard.shard] is None]
        if missing:
            with ThreadPoolExecutor(min(THREADS, len(missing))) as threads:
                read = dict(zip([shard.shard for shard in missing], threads.map(_in_order, missing), strict=True))
            self._keep(read)
            found |= read
        return [known for shard in shards if (known := found[shard.shard]) is not None]

    def _keep(self, read: dict[int, ShardKeys]) -> None:
        with self._lock:
            self._kept |= read
            while len(self._kept) > 1 and sum(known.num_bytes for known in self._kept.values()) > self.kept_bytes:
                self._kept.popitem(last=False)


class FoundKeys(FoundValues):
    """The keys of a version's items, by id."""

    def __init__(self, store: Store, manifest: Manifest, *, kept_bytes: int = KEPT_BYTES) -> None:
        """Nothing is read yet. The version must have keys."""
        super().__init__(key_columns(store, manifest), manifest.version, kept_bytes=kept_bytes)


def _joined(parts: Sequence[Any]) -> Any:
    """Values of several shards; where their types differ as text."""
    kinds = {part.type for part in parts}
    return pa.concat_arrays(parts if len(kinds) == 1 else [part.cast(pa.string()) for part in parts])


def _in_order(shard: KeyColumn) -> ShardKeys:
    ids_N, keys = read_keys(shard)
    if len(ids_N) > 1 and not bool((ids_N[1:] > ids_N[:-1]).all()):
        order = np.argsort(ids_N, kind="stable")
        return ShardKeys(ids_N=ids_N[order], keys=keys.take(pa.array(order)))
    return ShardKeys(ids_N=ids_N, keys=keys)
