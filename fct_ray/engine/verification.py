"""Reading back what a run wrote, before it is published: rows, ids, hashes, indexes, and the recall of the real index.

Owns: the sampled read-back by Ray tasks. Rows and id ranges of *all* shards are checked from their receipts when the
manifest is assembled (plan/versions); here the objects themselves are opened: the first, the last and some between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.engine.meters import ProcessMeter, StageMeter
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError, StoreError
from fct_ray.index import search
from fct_ray.storage import objects, shards
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, Metric, ShardRecord, Usage

RECALL_K = 10
OWN_QUERIES = 64
EXACT_RECALL = 0.999  # an exhaustive index may differ from brute force in ties only


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardCheck:
    """What a worker needs to check one shard of a new version (and its input, None for a full backfill)."""

    store_uri: str
    record: ShardRecord
    parent: ShardRecord | None
    dimension: int
    metric: Metric
    queries_QW: npt.NDArray[np.float32] | None


def verify_version(
    store: Store,
    manifest: Manifest,
    parent: Manifest | None,
    queries_QW: npt.NDArray[np.float32] | None,
    *,
    num_shards: int,
    meter: StageMeter,
) -> float:
    """Check `num_shards` shards spread over the version; returns the mean recall@10 of the real index in them.

    Recall is against brute force over the same shard's vectors, for queries of the new model; without any
    (`queries_QW` None) some of the shard's own vectors query it.

    Raises:
        StoreError: a hash, a row, an id or an index is not what it should be; the message names the object.
    """
    parents = {record.shard: record for record in parent.shards} if parent is not None else {}
    positions = np.unique(np.linspace(0, len(manifest.shards) - 1, num_shards).astype(int))
    checks = [
        ShardCheck(
            store_uri=store.uri,
            record=manifest.shards[position],
            parent=parents.get(manifest.shards[position].shard),
            dimension=manifest.dimension,
            metric=manifest.metric,
            queries_QW=queries_QW,
        )
        for position in positions
    ]
    recalls = []
    for _, (recall, usage) in map_tasks(check_shard, checks, describe="verify"):
        recalls.append(recall)
        meter.add(usage)
    mean = float(np.mean(recalls))
    if manifest.index is not None and manifest.index.factory == "Flat" and mean < EXACT_RECALL:
        raise StoreError(
            f"recall@{RECALL_K} of the exhaustive index is {mean:.4f} against brute force; want {EXACT_RECALL}: "
            "index and vectors differ; nothing was published"
        )
    return mean


def check_shard(check: ShardCheck) -> tuple[float, Usage]:
    """Hashes, ids and vectors of one shard against its index and its input. Runs in a Ray task."""
    meter, store, record = ProcessMeter(), Store(check.store_uri), check.record
    data = store.read(record.embeddings)
    uri = store.uri_of(record.embeddings.path)
    columns = shards.parse_shard(data, uri, dimension=check.dimension, side_dimension=None)
    read = len(data)
    if len(columns.ids_N) != record.rows:
        raise FormatError(f"{uri}: has {len(columns.ids_N):,} rows, its receipt says {record.rows:,}")
    if check.parent is not None:
        before = objects.read_bytes(store.uri_of(check.parent.embeddings.path))
        read += len(before)
        parent_ids = shards.read_ids(before, store.uri_of(check.parent.embeddings.path))
        if not np.array_equal(parent_ids, columns.ids_N):
            raise FormatError(f"{uri}: ids or their order differ from {check.parent.embeddings.path}; run again")
    recall = 1.0
    if record.index is not None:
        index_bytes = store.read(record.index)
        read += len(index_bytes)
        contents = search.describe(index_bytes)
        if not np.array_equal(np.sort(contents.ids_N), np.sort(columns.ids_N)):
            raise FormatError(f"{store.uri_of(record.index.path)}: its ids are not those of {record.embeddings.path}")
        k = min(RECALL_K, record.rows)
        queries_QW = columns.embeddings_ND[:OWN_QUERIES] if check.queries_QW is None else check.queries_QW
        _, found = search.ShardedIndex([index_bytes]).search(queries_QW, k)
        _, truth = search.exact_search([(columns.ids_N, columns.embeddings_ND)], queries_QW, k, check.metric)
        recall = search.recall(found, truth)
    return recall, meter.read() + Usage(bytes_read=read, rows=record.rows)
