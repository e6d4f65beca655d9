"""Opening what a version consists of: hashes, rows, ids, indexes, recall, and vectors computed again.

    before publishing   a sample of the new version's shards (`verify_version`)
    at any later time   everything, or a share (`verify_store`): documents, all ids, shards; every problem is listed

Owns: those checks, by Ray tasks of one shard each. What documents alone show is plan/integrity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fct_ray.engine.cluster import count_nodes
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FctRayError, FormatError
from fct_ray.kinds import Precision
from fct_ray.metering.meters import StageMeter, measure_stage
from fct_ray.plan import integrity
from fct_ray.plan.catch_up import same_space
from fct_ray.settings import CheckedSettings, Count, CountOrZero, PartOrAll
from fct_ray.shards.shard_check import ShardCheck, ShardInput, Vectors, check_shard
from fct_ray.shards.true_rows import check_true_vectors
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.key_columns import key_columns
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ShardRecord, Usage
from fct_ray.workflows.unique_ids import check_unique_ids
from fct_ray.workflows.unique_keys import check_unique_keys


@dataclass(frozen=True, kw_only=True)
class VerifySettings(CheckedSettings):
    """Check a version of a store: documents, hashes, ids, indexes and vectors."""

    store: str
    """The store: a directory or s3:// prefix."""
    version: Count | None = None
    """Which version. None: CURRENT."""
    share: PartOrAll = 1.0
    """Share of the shards whose objects are read and hashed again; 1 reads everything."""
    recompute: CountOrZero = 4
    """In so many of them vectors are made again from the version before, and the index from the vectors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a check of a version saw; `problems` is empty if all is well."""

    store: Store
    manifest: Manifest
    problems: tuple[str, ...]
    recall: float | None
    num_read: int
    num_recomputed: int
    usage: Usage


def verify_version(
    store: Store,
    manifest: Manifest,
    parent: Manifest | None,
    queries_QW: Vectors | None,
    *,
    num_shards: int,
    meter: StageMeter,
) -> float | None:
    """Check `num_shards` shards spread over a version before it is published; returns the mean recall@10 of their indexes.

    None: no index was searched, because no shard was to be read back, or the version has no index.

    Recall is against brute force over the same shard's vectors, for queries of the new model; without any
    (`queries_QW` None) some of the shard's own vectors query it.

    Raises:
        StoreError: a hash, a row, an id or an index is not what it should be; the message names the object.
    """
    inputs = (
        {}
        if parent is None
        else {
            r.shard: ShardInput(record=r, dimension=parent.dimension, reading=Reading.of(parent)) for r in parent.shards
        }
    )
    checks = [
        replace(_check(store, manifest, record), made_from=inputs.get(record.shard), queries_QW=queries_QW)
        for record in _spread(manifest.shards, num_shards)
    ]
    recalls = []
    for _, findings in map_tasks(check_shard, checks, describe="verify", name=_shard_of):
        meter.add(findings.usage)
        if findings.problems:
            raise FormatError(f"{findings.problems[0]}. Nothing was published; run the same command again")
        recalls += [] if findings.recall is None else [findings.recall]
    return float(np.mean(recalls)) if recalls else None


def verify_store(settings: VerifySettings) -> Verified:
    """Check a whole version, or a share of its shards, and list everything that is wrong.

    Raises:
        FctRayError: there is no such version, or its manifest cannot be read or is not the one that CURRENT names.
    """
    store = Store(settings.store)
    manifest = store.manifest(settings.version)
    problems = _document_problems(store, manifest)
    with measure_stage(count_nodes) as meter:
        try:
            check_unique_ids(store, manifest.shards, Reading.of(manifest))
            check_unique_keys(key_columns(store, manifest))
        except FctRayError as error:
            problems.append(str(error))
        chosen = _spread(manifest.shards, max(1, round(settings.share * len(manifest.shards))))
        again = {record.shard for record in _spread(chosen, settings.recompute)} if settings.recompute else set()
        checks = _with_inputs(store, manifest, [_check(store, manifest, record) for record in chosen], again)
        recalls = []
        for _, findings in map_tasks(check_shard, checks, describe="verify", name=_shard_of):
            meter.add(findings.usage)
            problems += findings.problems
            recalls += [] if findings.recall is None else [findings.recall]
    return Verified(
        store=store,
        manifest=manifest,
        problems=tuple(problems),
        recall=float(np.mean(recalls)) if recalls else None,
        num_read=len(checks),
        num_recomputed=sum(check.recompute and check.made_from is not None for check in checks),
        usage=meter.measured,
    )


def _document_problems(store: Store, manifest: Manifest) -> list[str]:
    present = {number: store.paths_of_version(number) for number in integrity.directories(manifest)}
    receipts = [receipt for number in present for receipt in store.receipts(number)]
    return [
        *integrity.listing_problems(manifest, present),
        *integrity.receipt_problems(manifest, receipts),
        *_true_vector_problems(store, manifest),
    ]


def _true_vector_problems(store: Store, manifest: Manifest) -> list[str]:
    uri = store.find_transformation(manifest)
    try:
        if uri is not None:
            check_true_vectors(uri)
    except FctRayError as error:
        return [str(error)]
    return []


def _spread(records: Sequence[ShardRecord], count: int) -> list[ShardRecord]:
    """`count` of the shards, evenly: the first, the last and some between."""
    positions = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int))
    return [records[position] for position in positions]


def _shard_of(check: ShardCheck) -> str:
    return f"shard {check.record.shard}"


def _check(store: Store, manifest: Manifest, record: ShardRecord) -> ShardCheck:
    return ShardCheck(
        store_uri=store.uri,
        record=record,
        dimension=manifest.dimension,
        side_dimension=None if manifest.side_info is None else manifest.side_info.dimension,
        metric=manifest.metric,
        index=manifest.index,
        reading=Reading.of(manifest),
    )


def _with_inputs(store: Store, manifest: Manifest, checks: Iterable[ShardCheck], again: set[int]) -> list[ShardCheck]:
    """The checks with what their shards were made from, where an earlier version still has it."""
    known: dict[str, ShardInput] = {}
    version: Manifest | None = manifest
    h_uri = store.find_transformation(manifest)
    precision = Precision.FLOAT32 if manifest.transformation is None else manifest.transformation.precision
    while version is not None and version.parent is not None:
        version = store.find_manifest(version.parent)
        if version is None:
            break
        h = None if same_space(version, manifest) else h_uri
        if same_space(version, manifest) or h is not None:
            for record in version.shards:
                made_from = ShardInput(
                    record=record,
                    dimension=version.dimension,
                    reading=Reading.of(version),
                    transformation_uri=h,
                    precision=precision,
                )
                known.setdefault(record.embeddings.sha256, made_from)
        if not same_space(version, manifest):
            break
    return [
        replace(check, made_from=known.get(check.record.input_sha256 or ""), recompute=check.record.shard in again)
        for check in checks
    ]
