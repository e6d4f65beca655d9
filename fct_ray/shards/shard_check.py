"""Checking one shard of a version: hashes, rows, ids, index, recall, and vectors computed again.

Owns: what is looked at in one shard, and the sentences that say what is wrong. Which shards are checked, and against
which inputs, is decided in `workflows/verify`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import StoreError
from fct_ray.index import build, search
from fct_ray.key_types import KEY
from fct_ray.kinds import Metric, OnBadRow, Precision, Provenance
from fct_ray.metering.meters import process_meter
from fct_ray.shards.true_rows import were_purged
from fct_ray.storage import shards
from fct_ray.storage.gallery_reader import STORE_FORMAT, Reading, read_record
from fct_ray.storage.store import Store
from fct_ray.values import IndexRef, ShardRecord, Usage

RECALL_K = 10
OWN_QUERIES = 64
EXACT_RECALL = 0.999  # an exhaustive index may differ from brute force in ties only
REBUILT_RECALL = 0.02  # another FAISS or CPU type may build other bytes, but not a worse index
TOLERANCE = {  # of a unit vector's numbers: another batch size, CPU or GPU changes last bits only
    Precision.FLOAT32: 1e-4,
    Precision.BFLOAT16: 2e-2,
}

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardInput:
    """What a shard was made from: a shard of an earlier version, by h (None: by leaving rows out)."""

    record: ShardRecord
    dimension: int
    reading: Reading = STORE_FORMAT
    transformation_uri: str | None = None
    precision: Precision = Precision.FLOAT32


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardCheck:
    """What a worker needs to check one shard of a version."""

    store_uri: str
    record: ShardRecord
    dimension: int
    side_dimension: int | None
    metric: Metric
    index: IndexRef | None
    reading: Reading = STORE_FORMAT
    queries_QW: Vectors | None = None
    """Queries of the version's encoder. None: some of the shard's own vectors."""
    made_from: ShardInput | None = None
    """To compare ids with, and vectors if `recompute`. None: made from raw items, or its input was collected."""
    recompute: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFindings:
    """What is wrong with one shard, one sentence each, and the recall of its index (None: it has none)."""

    problems: tuple[str, ...]
    recall: float | None
    usage: Usage


def check_shard(check: ShardCheck) -> ShardFindings:
    """Hashes, ids and vectors of one shard against its record, its index and its input. Runs in a Ray task."""
    meter, store, record = process_meter(), Store(check.store_uri), check.record
    problems: list[str] = []
    recall, read = None, 0
    try:
        seen = read_record(
            store,
            record,
            check.reading,
            OnBadRow.REFUSE,
            dimension=check.dimension,
            side_dimension=check.side_dimension,
        )
        columns, uri = seen.columns, seen.uri
        read += seen.num_bytes
        problems += _row_problems(record, columns, uri)
        if check.made_from is not None:
            found, input_bytes = _input_problems(store, check, check.made_from, columns, uri)
            problems, read = problems + found, read + input_bytes
        if record.index is not None:
            index_data = store.read(record.index)
            read += len(index_data)
            found, recall = _index_problems(store, check, columns, index_data)
            problems += found
    except StoreError as error:
        problems.append(str(error))
    usage = meter.read() + Usage(bytes_read=read, rows=record.rows)
    return ShardFindings(problems=tuple(problems), recall=recall, usage=usage)


def _row_problems(record: ShardRecord, columns: shards.ShardColumns, uri: str) -> list[str]:
    ids_N = columns.ids_N
    seen = (len(ids_N), int(ids_N.min(initial=record.id_max)), int(ids_N.max(initial=record.id_min)))
    wanted = (record.rows, record.id_min, record.id_max)
    return [] if seen == wanted else [f"{uri}: (rows, smallest id, largest id) is {seen}, its manifest says {wanted}"]


def _input_problems(
    store: Store, check: ShardCheck, made_from: ShardInput, columns: shards.ShardColumns, uri: str
) -> tuple[list[str], int]:
    """Ids, and if wanted vectors, against the shard it was made from."""
    seen = read_record(
        store,
        made_from.record,
        made_from.reading,
        OnBadRow.QUARANTINE,  # rows that were quarantined are not in the shard either
        dimension=made_from.dimension,
        side_dimension=check.side_dimension,
    )
    before, origin = seen.columns, seen.uri
    kept_N = np.isin(before.ids_N, columns.ids_N)
    if not np.array_equal(before.ids_N[kept_N], columns.ids_N):
        return [f"{uri}: ids or their order differ from {origin}, which it was made from"], seen.num_bytes
    if check.record.rows == made_from.record.rows and not kept_N.all():
        return [f"{uri}: lacks ids of {origin}, which it was made from"], seen.num_bytes
    problems = []
    if check.reading.keys is not None:
        carried = before.table[KEY].filter(pa.array(kept_N))
        if not carried.combine_chunks().equals(columns.table[KEY].combine_chunks()):
            problems.append(f"{uri}: keys differ from {origin}, from which they should have been carried")
    sides = (before.side_info_NS, columns.side_info_NS)
    if sides[0] is not None and (sides[1] is None or not np.array_equal(sides[0][kept_N], sides[1])):
        problems.append(f"{uri}: side-information differs from {origin}, from which it should have been carried")
    if check.recompute:
        expected_NW = before.embeddings_ND[kept_N]
        if made_from.transformation_uri is not None:
            expected_NW = _transformed(made_from.transformation_uri, made_from.precision, before, kept_N)
        apart_N = np.abs(expected_NW - columns.embeddings_ND).max(axis=1, initial=0.0)
        if num_purged := _num_purged(made_from.transformation_uri, check.record):
            apart_N = np.sort(apart_N)[: max(0, len(apart_N) - num_purged)]
        worst = float(apart_N.max(initial=0.0))
        if worst > TOLERANCE[made_from.precision] * max(1.0, float(np.abs(expected_NW).max(initial=0.0))):
            problems.append(f"{uri}: vectors made again from {origin} differ by up to {worst:.2g}")
    return problems, seen.num_bytes


def _num_purged(transformation_uri: str | None, record: ShardRecord) -> int:
    """How many rows hold true vectors whose file was purged with deleted items: nobody can say what they should be."""
    if transformation_uri is None or not were_purged(transformation_uri):
        return 0
    return record.counts.get(Provenance.EMBEDDED.value, 0)


def _transformed(
    transformation_uri: str,
    precision: Precision,
    before: shards.ShardColumns,
    kept_N: npt.NDArray[np.bool_],
) -> Vectors:
    from fct_ray.shards.version_vectors import VersionVectors  # torch: only where vectors are made again

    side_NS = None if before.side_info_NS is None else before.side_info_NS[kept_N]
    version = VersionVectors(transformation_uri, batch_rows=4096, precision=precision, purged=True)
    return version.of_rows(before.ids_N[kept_N], before.embeddings_ND[kept_N], side_NS).vectors_NV


def _index_problems(
    store: Store, check: ShardCheck, columns: shards.ShardColumns, data: bytes
) -> tuple[list[str], float]:
    """Ids of the index, its training, its recall against brute force, and if wanted against one built again."""
    record = check.record
    assert record.index is not None  # noqa: S101 (the caller read it)
    assert check.index is not None  # noqa: S101 (a manifest whose shards have indexes names their type)
    uri, contents = store.uri_of(record.index.path), search.describe(data, record.index.path)
    if not np.array_equal(contents.ids_N, np.sort(columns.ids_N)):
        return [f"{uri}: its ids are not those of {record.embeddings.path}"], 0.0
    if (contents.dimension, contents.metric) != (check.dimension, check.metric):
        seen = f"dimension {contents.dimension}, metric {contents.metric.value}"
        return [f"{uri}: {seen}; want {check.dimension}, {check.metric.value}: an index of another version?"], 0.0
    problems = []
    trained = check.index.trained
    if trained is not None and contents.trained_sha256 not in {None, trained.sha256}:
        problems.append(f"{uri}: was not built from {trained.path}: an index of another version?")
    queries_QW = columns.embeddings_ND[:OWN_QUERIES] if check.queries_QW is None else check.queries_QW
    k = min(RECALL_K, record.rows)
    _, truth = search.exact_search([(columns.ids_N, columns.embeddings_ND)], queries_QW, k, check.metric)
    recall = _recall(data, queries_QW, k, truth)
    if check.index.factory == "Flat" and recall < EXACT_RECALL:
        problems.append(
            f"{uri}: recall@{k} of the exhaustive index is {recall:.4f} against brute force over "
            f"{record.embeddings.path}; want {EXACT_RECALL}: index and vectors differ"
        )
    if check.recompute:
        template = None if trained is None else store.read(trained)
        builder = build.ShardIndexBuilder(template, check.index.factory, check.dimension, check.metric)
        builder.add(columns.ids_N, columns.embeddings_ND)
        rebuilt = builder.finish()
        if rebuilt != data and _recall(rebuilt, queries_QW, k, truth) > recall + REBUILT_RECALL:
            problems.append(f"{uri}: an index built again from {record.embeddings.path} finds more: a stale index?")
    return problems, recall


def _recall(data: bytes, queries_QW: Vectors, k: int, truth: npt.NDArray[np.int64]) -> float:
    _, found = search.ShardedIndex([data]).search(queries_QW, k)
    return float(search.recall(found, truth))
