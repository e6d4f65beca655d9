"""Ids that two objects share, looked for in one process with a bounded number of ids at a time.

Owns: reading id columns and comparing them. Which objects are compared is decided in `workflows/unique_ids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.plan.splits import unit_hash
from fct_ray.storage.gallery_reader import Reading, read_ids
from fct_ray.storage.store import Store
from fct_ray.values import ShardRecord

IdArray = npt.NDArray[np.int64]
Repeated = tuple[int, str, str, int]
"""An id, two places where it is, and how many ids are there more than once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The ids of some shards whose hash lies in one of `parts` equal parts of its range."""

    store_uri: str
    records: tuple[ShardRecord, ...]
    reading: Reading
    part: int
    parts: int


def first_repeated(ids: Slice) -> Repeated | None:
    """(id, object, other object, how many) of the ids that two objects share, or None. Runs in a Ray task."""
    parts, store = [], Store(ids.store_uri)
    for record in ids.records:
        uri, ids_N = store.uri_of(record.embeddings.path), read_ids(store, record, ids.reading)
        if ids.parts > 1:
            ids_N = ids_N[(unit_hash(ids_N, "unique") * ids.parts).astype(np.int64) == ids.part]
        parts.append((uri, ids_N))
    return find_repeated(parts)


def find_repeated(parts: Sequence[tuple[str, IdArray]]) -> Repeated | None:
    """The first id that two of these (name, ids) have, or one of them twice; None if there is none."""
    ids_N = np.concatenate([part_N for _, part_N in parts])
    owners_N = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part_N) for _, part_N in parts])
    order = np.argsort(ids_N, kind="stable")
    twice = np.flatnonzero(ids_N[order][1:] == ids_N[order][:-1])
    if len(twice) == 0:
        return None
    first, second = order[twice[0]], order[twice[0] + 1]
    return int(ids_N[first]), parts[owners_N[first]][0], parts[owners_N[second]][0], len(twice)
