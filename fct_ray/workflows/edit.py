"""What appending and deleting share: both make a new version of the same models out of the one that is published.

    append   v3 = all shards of v2, where they lie   + new shards 7, 8 in versions/000003/
    delete   v3 = shards of v2 without those ids     + shards 2, 5 rewritten in versions/000003/

Owns: planning an edit against what is published, and again when another writer published first. Several writers may edit
at once, also while an upgrade runs, which catches up with both before it publishes (`workflows/upgrade`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.engine.tasks import map_tasks
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.identity import run_id
from fct_ray.plan.resume import shards_to_do
from fct_ray.plan.versions import edited_manifest
from fct_ray.shards.edited_shard import EditJob, write_edited
from fct_ray.shards.shard_output import OutputJob
from fct_ray.shards.stored_rows import ids_in_shard
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import Current, Manifest, Receipt, ShardRecord, Usage
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.commit import (
    RunInProgress,
    VersionToMake,
    commit,
    now,
    parent_of,
    start_again_on_conflict,
)

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class EditOutcome:
    """The version that holds after an edit, and what it took; `changed` counts items appended or deleted."""

    store: Store
    published: Manifest
    stages: Mapping[str, Usage]
    changed: int
    num_bad_rows: int = 0
    notes: tuple[str, ...] = ()
    """What else its report must say, e.g. which objects were skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What to do to one version: which shards are new or rewritten, by which worker, and which fall out."""

    run: str
    shards: tuple[int, ...]
    """The shards to write."""
    write: Callable[[OutputJob, Sequence[Receipt]], None]
    """Writes those that these receipts do not prove to be finished."""
    changed: int
    """Items appended or deleted."""
    dropped: frozenset[int] = frozenset()
    """Shards of which no row is left."""
    num_rows: int
    """What the new version must have."""
    notes: tuple[str, ...] = ()


def make_edit(
    store: Store,
    plan: Callable[[Manifest], Edit | None],
    *,
    threads: int,
    bad_rows: BadRowSettings,
) -> EditOutcome:
    """Plan an edit of what is published and publish it; start again if another writer was first.

    `plan(parent)` is None where the version holds what was asked for already.

    Raises:
        FctRayError: the edit cannot be made. CURRENT is unchanged, finished shards are kept.
    """

    def attempt() -> EditOutcome:
        current, parent = store.pinned()
        edit = plan(parent)
        if edit is None:
            return EditOutcome(store=store, published=parent, stages={}, changed=0)
        done = commit(_version_to_make(store, current, parent, edit, threads, bad_rows))
        return EditOutcome(
            store=store,
            published=done.published,
            stages=done.stages,
            changed=edit.changed - done.num_bad_rows,
            num_bad_rows=done.num_bad_rows,
            notes=edit.notes,
        )

    return start_again_on_conflict(attempt)


def _version_to_make(
    store: Store, current: Current, parent: Manifest, edit: Edit, threads: int, bad_rows: BadRowSettings
) -> VersionToMake[None]:
    def write(run: RunInProgress, version: int, _meter: StageMeter) -> None:
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
        edit.write(output, run.ledger())

    def manifest(version: int, _written: None, receipts: Sequence[Receipt]) -> Manifest:
        return edited_manifest(
            parent,
            version=version,
            created_at=now(),
            receipts=receipts,
            written=edit.shards,
            dropped=edit.dropped,
            num_rows=edit.num_rows,
            run=edit.run,
        )

    return VersionToMake(
        store=store,
        run=edit.run,
        current=current,
        parent=parent.version,
        write=write,
        manifest=manifest,
        bad_rows=bad_rows,
        brings_items=not {record.shard for record in parent.shards}.issuperset(edit.shards),
    )


def run_unless_published(kind: str, store: Store, parent: Manifest, *parts: str) -> str | None:
    """The id of the run that edits `parent`; None if `parent` is what this very edit published."""
    before = parent_of(store, parent)
    if before is not None and parent.run == run_id(kind, store.manifest_bytes_sha256(before.version), *parts):
        return None
    return run_id(kind, store.manifest_bytes_sha256(parent.version), *parts)


def rewriting(
    records: Sequence[ShardRecord],
    parent: Manifest,
    deleted_N: IdArray,
    model_uri: str | None = None,
) -> Callable[[OutputJob, Sequence[Receipt]], None]:
    """What writes these shards again, without the deleted ids.

    A shard counts as finished only if it was made from exactly this object, wherever the object lay then. `model_uri` is
    where the transformation of `parent` is, to count what stays of shards of which some rows are transformed.
    """
    side_dimension = None if parent.side_info is None else parent.side_info.dimension

    def write(output: OutputJob, receipts: Sequence[Receipt]) -> None:
        job = EditJob(
            output=output,
            side_dimension=side_dimension,
            reading=Reading.of(parent),
            deleted_N=deleted_N,
            model_uri=model_uri,
        )
        todo = shards_to_do(records, receipts)
        for _ in map_tasks(
            write_edited, todo, job, describe="write shards", name=lambda record: f"shard {record.shard}"
        ):
            pass

    return write


def shards_with(store: Store, parent: Manifest, ids_N: IdArray) -> Iterator[tuple[ShardRecord, IdArray]]:
    """Which of the ascending `ids_N` are in which shard; only shards whose id range they meet are looked at."""
    tasks = []
    for record in parent.shards:
        low, high = np.searchsorted(ids_N, record.id_min), np.searchsorted(ids_N, record.id_max, side="right")
        if high > low:
            tasks.append((record, store.uri, ids_N[low:high]))
    for position, hits_N in map_tasks(
        ids_in_shard,
        tasks,
        Reading.of(parent),
        describe="look up ids",
        name=lambda task: f"shard {task[0].shard}",
    ):
        yield tasks[position][0], hits_N
