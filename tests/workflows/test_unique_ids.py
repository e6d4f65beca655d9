"""Repeated ids are found across shards, in slices that bound memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError
from fct_ray.kinds import Provenance
from fct_ray.plan.id_ranges import overlapping
from fct_ray.shards.unique_ids import Slice, first_repeated
from fct_ray.storage.gallery_reader import STORE_FORMAT
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, ShardRecord
from fct_ray.workflows.unique_ids import check_unique_ids
from tests.galleries import IdArray, write_ids


def _records(store: Store, ids_by_shard: list[IdArray]) -> list[ShardRecord]:
    records = []
    for shard, ids_N in enumerate(ids_by_shard):
        path = Path(store.uri_of(Store.shard_path(1, shard)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_ids(path, ids_N)
        records.append(
            ShardRecord(
                shard=shard,
                embeddings=ObjectRef(path=Store.shard_path(1, shard), bytes=path.stat().st_size, sha256="x"),
                index=None,
                rows=len(ids_N),
                id_min=int(ids_N.min()),
                id_max=int(ids_N.max()),
                provenance=Provenance.EMBEDDED,
            )
        )
    return records


@pytest.fixture
def random_ids() -> list[IdArray]:
    """5,000 ids over the whole int64 range in five shards: every range overlaps every other."""
    ids_N = np.random.default_rng(0).choice(2**62, 5000, replace=False) * np.resize([1, -1], 5000)
    return list(ids_N.reshape(5, 1000))


def test_an_id_in_two_shards_is_found_whatever_slice_it_falls_into(
    cluster: ClusterSize, random_ids: list[IdArray], tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    check_unique_ids(store, _records(store, random_ids), ids_per_task=700)
    for position in (0, 17, 999):
        ids = [ids_N.copy() for ids_N in random_ids]
        ids[4][position] = ids[1][3]
        with pytest.raises(DataError, match=rf"id {ids[1][3]} is in .*0000[14]\.parquet and in .*0000[14]\.parquet"):
            check_unique_ids(store, _records(store, ids), ids_per_task=700)


def test_slices_divide_the_ids_evenly_and_each_id_is_in_one(random_ids: list[IdArray], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    records = _records(store, [*random_ids, random_ids[0]])  # every id of shard 0 twice
    found = [
        first_repeated(Slice(store_uri=store.uri, records=tuple(records), reading=STORE_FORMAT, part=part, parts=8))
        for part in range(8)
    ]
    counts = [repeated[3] for repeated in found if repeated is not None]
    assert sum(counts) == 1000
    assert max(counts) < 2 * 1000 / 8


def test_shards_whose_ranges_touch_no_other_are_not_looked_into() -> None:
    def record(shard: int, low: int, high: int) -> ShardRecord:
        ref = ObjectRef(path=f"versions/000001/shards/{shard:05d}.parquet", bytes=1, sha256="x")
        return ShardRecord(
            shard=shard, embeddings=ref, index=None, rows=1, id_min=low, id_max=high, provenance=Provenance.EMBEDDED
        )

    records = [record(0, 0, 9), record(1, 10, 19), record(2, 15, 30), record(3, 30, 40), record(4, 41, 50)]
    assert [[member.shard for member in group] for group in overlapping(records)] == [[1, 2, 3]]
    apart = [
        dataclasses.replace(member, id_min=100 * member.shard, id_max=100 * member.shard + 9) for member in records
    ]
    assert overlapping(apart) == []
