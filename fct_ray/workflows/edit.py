"""A living gallery: appending and deleting items, each as a new version of the same models.

    append   v3 = all shards of v2, where they lie   + new shards 7, 8 in versions/000003/
    delete   v3 = shards of v2 without those ids     + shards 2, 5 rewritten in versions/000003/

Owns: the order of effects of both. Several writers may edit at once, also while an upgrade runs: who publishes second
starts again from what the first one published. An upgrade catches up with both before it publishes (engine/upgrade).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError, EncoderMismatchError, FormatError, PublishConflictError, SettingsError
from fct_ray.plan.identity import run_id
from fct_ray.plan.versions import edited_manifest
from fct_ray.shards.embed import EmbedDescriptor, EmbedJob, EmbedWorker
from fct_ray.shards.model_directory import model_uri, open_encoder, resolve_encoder
from fct_ray.shards.read import ids_in_shard, inspect_shard, usable_ids
from fct_ray.shards.rewrite import EditJob, write_edited
from fct_ray.shards.write import OutputJob
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, leases, objects
from fct_ray.storage import pairs as parquet_files
from fct_ray.storage.store import Store
from fct_ray.values import Current, EncoderRef, Manifest, ShardRecord, Usage
from fct_ray.workflows.adopt import check_same
from fct_ray.workflows.bad_rows import BadRowSettings, list_bad_rows
from fct_ray.workflows.run_log import RunLog, now
from fct_ray.workflows.unique_ids import refuse_repeated

logger = logging.getLogger(__name__)
IdArray = npt.NDArray[np.int64]
ATTEMPTS = 20
"""How often an edit starts again because another writer published first."""


@dataclass(frozen=True, kw_only=True)
class AppendSettings(BadRowSettings):
    """Add items to a gallery, as a new version: existing embeddings of its encoder, or raw items that it embeds."""

    store: str
    """The store: a directory or s3:// prefix."""
    encoder: str
    """The encoder of the new items: must be the one that CURRENT is for."""
    embeddings: str | None = None
    """Directory or glob of Parquet objects with columns as for `adopt`; they are copied into the store."""
    source: str | None = None
    """Raw items (instead of --embeddings); those whose ids the store does not have are embedded."""
    side: str | None = None
    """With --source: the side-information model, if the store keeps side-information."""
    rows_per_shard: int = 20_000
    """With --source: items per new shard."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that do it."""


@dataclass(frozen=True, kw_only=True)
class DeleteSettings:
    """Take items out of a gallery, as a new version: embeddings, side-information, other columns and index entries.

    Older versions keep them until they are collected: `jobs/store.py gc --purge-deleted`.
    """

    store: str
    """The store: a directory or s3:// prefix."""
    ids: str
    """Parquet file with a column `id` (int64): the items to delete."""
    missing_ok: bool = False
    """Ids that the store does not have are no error."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that do it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditOutcome:
    """The version that holds after an edit, and what it took; `changed` counts items appended or deleted."""

    store: Store
    published: Manifest
    stages: Mapping[str, Usage]
    changed: int
    num_bad_rows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Edit:
    """What to do to one version: which shards are new or rewritten, by which worker, and which fall out."""

    run: str
    shards: tuple[int, ...]
    """The shards to write."""
    write: Callable[[OutputJob, Collection[int]], None]
    """Writes those that are left of them."""
    changed: int
    """Items appended or deleted."""
    dropped: frozenset[int] = frozenset()
    """Shards of which no row is left."""
    num_rows: int
    """What the new version must have."""


def append(settings: AppendSettings, size: ClusterSize) -> EditOutcome:
    """Add items as a new version; run again after a kill, it resumes.

    Raises:
        EncoderMismatchError: the items' encoder is not that of CURRENT (perhaps the store was upgraded meanwhile).
        FormatError: dimensions or side-information differ from the gallery's.
        DataError: an id that the gallery has already, or twice among the new ones; NaN or infinite values.
    """
    if (settings.embeddings is None) == (settings.source is None):
        raise SettingsError("give the new items either as --embeddings (Parquet files) or as --source (raw items)")
    if settings.source is not None:
        return _edit(settings, lambda store, head: _appended_items(settings, store, head, size))
    return _edit(settings, lambda store, head: _appended_objects(settings, store, head))


def delete(settings: DeleteSettings) -> EditOutcome:
    """Take items out as a new version; run again after a kill, it resumes.

    Raises:
        DataError: ids that the gallery does not have (unless `missing_ok`), or all of its items.
    """
    ids_N = np.sort(parquet_files.read_ids(settings.ids))
    return _edit(settings, lambda store, head: _deleted(settings, ids_N, store, head))


def _edit(settings: AppendSettings | DeleteSettings, plan: Callable[[Store, Manifest], _Edit | None]) -> EditOutcome:
    store = Store(settings.store)
    bad_rows = settings if isinstance(settings, BadRowSettings) else BadRowSettings()
    for _ in range(ATTEMPTS):
        current, parent = store.pinned()
        edit = plan(store, parent)
        if edit is None:
            return EditOutcome(store=store, published=parent, stages={}, changed=0)
        try:
            return _publish(store, current, parent, edit, settings.pool.threads, bad_rows)
        except PublishConflictError as error:
            logger.info("another writer was first, starting again: %s", error)
            lost = error
    raise PublishConflictError(f"{ATTEMPTS} times another writer published first: {lost}")


def _publish(
    store: Store, current: Current, parent: Manifest, edit: _Edit, threads: int, bad_rows: BadRowSettings
) -> EditOutcome:
    log = RunLog(store, edit.run)
    with leases.take(store, edit.run, edit.run, versions=(parent.version,)) as lease:
        version = store.claim_version(edit.run, parent.version)
        output = OutputJob(
            store_uri=store.uri,
            version=version,
            run=edit.run,
            metric=parent.metric,
            dimension=parent.dimension,
            index=parent.index,
            threads=threads,
            on_bad_row=bad_rows.on_bad_row,
            max_bad_rows=bad_rows.max_bad_rows,
        )
        done = {receipt.record.shard for receipt in store.ledger(edit.run)}
        with log.stage("stream"):
            edit.write(output, set(edit.shards) - done)
        receipts = store.ledger(edit.run)
        num_bad = list_bad_rows(store, edit.run, receipts, bad_rows.max_bad_rows)
        manifest = edited_manifest(
            parent,
            version=version,
            created_at=now(),
            receipts=receipts,
            written=edit.shards,
            dropped=edit.dropped,
            num_rows=edit.num_rows,
            run=edit.run,
        )
        with log.stage("publish"), leases.publishing(store, edit.run):
            lease.check()
            store.publish(manifest, expected=current)
    return EditOutcome(
        store=store, published=manifest, stages=log.used(), changed=edit.changed - num_bad, num_bad_rows=num_bad
    )


def _appended_objects(settings: AppendSettings, store: Store, parent: Manifest) -> _Edit | None:
    assert settings.embeddings is not None  # noqa: S101 (see append)
    _check_encoder(resolve_encoder(settings.encoder, store).ref, parent)
    uris, first = objects.expand_glob(settings.embeddings), _next_shard(parent)
    tasks = [(shard, uri, settings.on_bad_row) for shard, uri in enumerate(uris, first)]
    found = dict(map_tasks(inspect_shard, tasks, describe="read and check"))
    inspected_all = [found[position] for position in range(len(uris))]
    check_same(inspected_all)
    side = parent.side_info
    found_kind = (inspected_all[0].dimension, inspected_all[0].side_dimension, inspected_all[0].side_dtype)
    wanted = (parent.dimension, None if side is None else side.dimension, None if side is None else side.dtype)
    if found_kind != wanted:
        raise FormatError(
            f"{uris[0]}: (dimension, side dimension, side dtype) is {found_kind}; version {parent.version} has {wanted}: new "
            "items need embeddings and side-information of the same models"
        )
    records = [inspected.record for inspected in inspected_all]
    run = _run_if_new("append", store, parent, *sorted(record.embeddings.sha256 for record in records))
    if run is None:
        return None
    usable = dict(map_tasks(usable_ids, uris, settings.on_bad_row, describe="read ids"))
    refuse_repeated([(uri, usable[position]) for position, uri in enumerate(uris)])
    _check_new(store, parent, np.sort(np.concatenate(list(usable.values()))))
    return _Edit(
        run=run,
        shards=tuple(record.shard for record in records),
        write=_rewriting(records, parent),
        changed=(num_rows := sum(seen.record.rows + seen.num_bad_rows for seen in inspected_all)),
        num_rows=parent.num_rows + num_rows,
    )


def _appended_items(settings: AppendSettings, store: Store, parent: Manifest, size: ClusterSize) -> _Edit | None:
    assert settings.source is not None  # noqa: S101 (see append)
    source, encoder_uri = open_source(settings.source), model_uri(settings.encoder, store)
    side_uri = None if settings.side is None else model_uri(settings.side, store)
    _check_encoder(resolve_encoder(settings.encoder, store).ref, parent)
    _check_side(side_uri, parent)
    known = np.concatenate([source.ids_N[:0], *(ids_N for _, ids_N in _found(store, parent, np.sort(source.ids_N)))])
    positions_N = np.flatnonzero(~np.isin(source.ids_N, known))
    if len(positions_N) == 0:
        return None
    run = _run_if_new(
        "append", store, parent, settings.source, documents.sha256_hex(source.ids_N[positions_N].tobytes()),
        str(settings.rows_per_shard),
    )  # fmt: skip
    if run is None:
        return None
    starts = range(0, len(positions_N), settings.rows_per_shard)
    tasks = {
        shard: EmbedDescriptor(shard=shard, start=start, stop=min(len(positions_N), start + settings.rows_per_shard))
        for shard, start in enumerate(starts, _next_shard(parent))
    }

    def write(output: OutputJob, todo: Collection[int]) -> None:
        job = EmbedJob(
            output=output,
            source_spec=settings.source or "",
            encoder_uri=encoder_uri,
            side_uri=side_uri,
            side_dtype="float32" if parent.side_info is None else parent.side_info.dtype,
            positions_N=positions_N,
        )
        descriptors = [tasks[shard] for shard in sorted(todo)]
        stream_shards(descriptors, EmbedWorker, job, pool=settings.pool, size=size, describe="embed new items")

    return _Edit(
        run=run,
        shards=tuple(tasks),
        write=write,
        changed=len(positions_N),
        num_rows=parent.num_rows + len(positions_N),
    )


def _rewriting(
    records: Sequence[ShardRecord], parent: Manifest, deleted_N: IdArray | None = None
) -> Callable[[OutputJob, Collection[int]], None]:
    side_dimension = None if parent.side_info is None else parent.side_info.dimension

    def write(output: OutputJob, todo: Collection[int]) -> None:
        job = EditJob(output=output, side_dimension=side_dimension, deleted_N=deleted_N)
        wanted = [record for record in records if record.shard in todo]
        for _ in map_tasks(write_edited, wanted, job, describe="write shards"):
            pass

    return write


def _deleted(settings: DeleteSettings, ids_N: IdArray, store: Store, parent: Manifest) -> _Edit | None:
    run = _run_if_new("delete", store, parent, documents.sha256_hex(ids_N.tobytes()))
    if run is None:
        return None
    found = {record.shard: (record, hits_N) for record, hits_N in _found(store, parent, ids_N) if len(hits_N)}
    num_found = sum(len(hits_N) for _, hits_N in found.values())
    if num_found < len(ids_N) and not settings.missing_ok:
        missing = np.setdiff1d(ids_N, np.concatenate([ids_N[:0], *(hits_N for _, hits_N in found.values())]))
        raise DataError(
            f"{settings.ids}: {len(missing):,} of {len(ids_N):,} ids are not in version {parent.version} (for example "
            f"{', '.join(str(number) for number in missing[:5])}); want ids of the store: nothing was deleted. If they "
            "may be gone already, add --missing-ok"
        )
    if num_found == 0:
        return None
    if num_found == parent.num_rows:
        raise DataError(
            f"{settings.ids}: these are all {num_found:,} items of the gallery; want one to be left at least"
        )
    emptied = frozenset(shard for shard, (record, hits_N) in found.items() if len(hits_N) == record.rows)
    return _Edit(
        run=run,
        shards=tuple(sorted(found.keys() - emptied)),
        write=_rewriting([record for record, _ in found.values()], parent, ids_N),
        changed=num_found,
        dropped=emptied,
        num_rows=parent.num_rows - num_found,
    )


def _run_if_new(kind: str, store: Store, parent: Manifest, *parts: str) -> str | None:
    """The run's id; None if CURRENT is what this very edit published."""
    before = None if parent.parent is None else store.find_manifest(parent.parent)
    if before is not None and parent.run == run_id(kind, store.manifest_bytes_sha256(before.version), *parts):
        return None
    return run_id(kind, store.manifest_bytes_sha256(parent.version), *parts)


def _next_shard(parent: Manifest) -> int:
    return 1 + max(record.shard for record in parent.shards)


def _check_encoder(seen: EncoderRef, parent: Manifest) -> None:
    if seen.fingerprint != parent.encoder.fingerprint:
        raise EncoderMismatchError(
            f"new items of encoder {seen.name!r} ({seen.fingerprint[:12]}) cannot join version {parent.version}, whose "
            f"encoder is {parent.encoder.name!r} ({parent.encoder.fingerprint[:12]}): embed them with that one (was the "
            "store upgraded meanwhile?)"
        )


def _check_side(side_uri: str | None, parent: Manifest) -> None:
    seen, wanted = None if side_uri is None else open_encoder(side_uri).fingerprint, parent.side_info
    if seen != (None if wanted is None else wanted.fingerprint):
        raise SettingsError(
            f"--side has fingerprint {seen}; want that of the side-information in version {parent.version}: "
            f"{'there is none, leave --side out' if wanted is None else f'{wanted.name!r} ({wanted.fingerprint})'}"
        )


def _check_new(store: Store, parent: Manifest, ids_N: IdArray) -> None:
    for record, hits_N in _found(store, parent, ids_N):
        if len(hits_N):
            raise DataError(
                f"id {hits_N[0]} is in the gallery already ({record.embeddings.path}; {len(hits_N):,} of the new items are "
                "in that shard); want new ids: delete those items first, or leave them out"
            )


def _found(store: Store, parent: Manifest, ids_N: IdArray) -> Iterator[tuple[ShardRecord, IdArray]]:
    """Which of the ascending `ids_N` are in which shard; only shards whose id range they meet are looked at."""
    tasks = []
    for record in parent.shards:
        low, high = np.searchsorted(ids_N, record.id_min), np.searchsorted(ids_N, record.id_max, side="right")
        if high > low:
            tasks.append((record, store.uri_of(record.embeddings.path), ids_N[low:high]))
    for position, hits_N in map_tasks(ids_in_shard, tasks, describe="look up ids"):
        yield tasks[position][0], hits_N
