"""The one way in which every verb makes a version of a store, from the lease to CURRENT.

    lease of the run      two processes never do the same run; the versions it reads are not collected
      -> claim            a version number that no other run writes
      -> shards           written by workers; each leaves a receipt once it is durable; finished ones are not written again
      -> ledger           the receipts of all attempts, read from storage
      -> bad rows         listed, and refused above the limit
      -> manifest         from the receipts, refused if anything is missing, or an item's key is there twice
      -> verify           a sample is read back
      -> publish          under the store's publish lease: the manifest, then CURRENT by compare-and-swap

Owns: the order of these effects, "was this done already?", and starting again when another writer published first. What
is written, and the manifest that follows from it, are arguments. Killed at any point, the same command goes on where it was.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fct_ray.errors import PublishConflictError
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.catch_up import is_edit
from fct_ray.storage import leases
from fct_ray.storage.key_columns import key_columns
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import Current, Manifest, Receipt, Usage
from fct_ray.workflows.bad_rows import BadRowSettings, list_bad_rows
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.unique_keys import check_unique_keys

OutcomeT = TypeVar("OutcomeT")
WrittenT = TypeVar("WrittenT")
logger = logging.getLogger(__name__)
ATTEMPTS = 20
"""How often a verb starts again because another writer published first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """A version that a verb published, or had published before, and the work of all attempts."""

    store: Store
    published: Manifest
    stages: Mapping[str, Usage]
    recall: float | None = None
    """The mean recall@10 of the indexes that were read back, against brute force; None if none was."""
    num_bad_rows: int = 0
    peak_memory_bytes: int = 0
    """Largest resident set of a worker process; 0 where no worker left a receipt."""
    done_before: bool = False
    """Whether an earlier run of the same command had published it, so that nothing was done now."""
    notes: tuple[str, ...] = ()
    """What else its report must say, e.g. which objects were skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInProgress:
    """A run whose lease this process holds; its methods are the steps of the protocol."""

    store: Store
    run: str
    lease: Lease
    log: RunUsage

    def claim(self, parent: int | None) -> int:
        """The number of the version that this run makes of `parent`; the same again when it resumes."""
        return self.store.claim_version(self.run, parent)

    def ledger(self) -> list[Receipt]:
        """The receipts of all attempts of this run, sorted by shard."""
        return self.store.ledger(self.run)

    def publish(self, manifest: Manifest, expected: Current | None) -> None:
        """Write the manifest, then move CURRENT; the caller holds the publish lease.

        Raises:
            LeaseHeldError: this process lost its lease, so another one may be at work on the same run.
            PublishConflictError: CURRENT is not `expected` any more; nothing was overwritten.
        """
        with self.log.stage("publish"):
            self.lease.check()
            self.store.publish(manifest, expected=expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionToMake(Generic[WrittenT]):
    """What a verb does between the claim and publishing."""

    store: Store
    run: str
    current: Current | None
    """What CURRENT must still be when the version is published."""
    parent: int | None
    write: Callable[[RunInProgress, int, StageMeter], WrittenT]
    """`write(run, version, meter)` writes shards that have no receipt yet; returns what else the manifest needs."""
    manifest: Callable[[int, WrittenT, Sequence[Receipt]], Manifest]
    """`manifest(version, written, receipts)` is the new version; raises IncompleteRunError if something is missing."""
    verify: Callable[[Manifest, StageMeter], float | None] | None = None
    """`verify(manifest, meter)` reads a sample back, and returns the recall of its indexes. None: nothing is read back."""
    bad_rows: BadRowSettings = field(default_factory=BadRowSettings)
    brings_items: bool = True
    """Whether items come into the store, so that their keys, where it has some, may be there already."""


@contextmanager
def run_in_progress(store: Store, run: str, *, reads: tuple[int, ...]) -> Iterator[RunInProgress]:
    """Hold the run's lease for the time of the block; the versions in `reads` are not collected meanwhile.

    Raises:
        LeaseHeldError: another living process does this run.
    """
    with leases.take(store, run, run, versions=reads) as lease:
        yield RunInProgress(store=store, run=run, lease=lease, log=RunUsage(store, run))


def commit(work: VersionToMake[WrittenT]) -> Committed:
    """Make the version and publish it; after a kill the same call goes on where it was.

    Raises:
        DataError: two items have one key.
        FctRayError: a step failed. CURRENT is unchanged and finished shards are kept.
    """
    reads = () if work.parent is None else (work.parent,)
    with run_in_progress(work.store, work.run, reads=reads) as run:
        version = run.claim(work.parent)
        with run.log.stage("stream") as meter:
            written = work.write(run, version, meter)
        receipts = run.ledger()
        num_bad = list_bad_rows(work.store, work.run, receipts, work.bad_rows.max_bad_rows)
        manifest, recall = work.manifest(version, written, receipts), None
        if work.brings_items:
            check_unique_keys(key_columns(work.store, manifest))
        if work.verify is not None:
            with run.log.stage("verify") as meter:
                recall = work.verify(manifest, meter)
        with leases.publishing(work.store, work.run):
            run.publish(manifest, work.current)
        return Committed(
            store=work.store,
            published=manifest,
            stages=run.log.used(),
            recall=recall,
            num_bad_rows=num_bad,
            peak_memory_bytes=max((receipt.peak_memory_bytes for receipt in receipts), default=0),
        )


def committed_before(store: Store, run: str, published: Manifest) -> Committed:
    """The outcome of a run that had published its version before: nothing is done again, its usage is read."""
    logger.info("run %s has published version %d already", run, published.version)
    receipts = store.ledger(run)
    return Committed(
        store=store,
        published=published,
        stages=RunUsage(store, run).used(),
        done_before=True,
        num_bad_rows=sum(len(receipt.bad_rows) for receipt in receipts),
        peak_memory_bytes=max((receipt.peak_memory_bytes for receipt in receipts), default=0),
    )


def published_now(store: Store) -> tuple[Current, Manifest] | tuple[None, None]:
    """CURRENT and its manifest, read so that they belong together; (None, None) where nothing is published yet."""
    return (None, None) if store.current() is None else store.pinned()


def published_by(store: Store, newest: Manifest | None, run_of: Callable[[Manifest | None], str]) -> Manifest | None:
    """The version that the very same command published and that CURRENT is, or grew from by appending and deleting.

    `run_of(parent)` is the id that the command's run has when it starts from `parent` (None: from an empty store).
    None: it has published nothing that still stands.
    """
    version = newest
    while version is not None:
        before = parent_of(store, version)
        if (before is not None or version.parent is None) and version.run == run_of(before):
            return version
        version = before if is_edit(version) else None
    return None


def parent_of(store: Store, version: Manifest) -> Manifest | None:
    """The version that `version` was made from; None for a first version, or if it was collected."""
    return None if version.parent is None else store.find_manifest(version.parent)


def start_again_on_conflict(attempt: Callable[[], OutcomeT]) -> OutcomeT:
    """Call `attempt` until no other writer published first.

    Raises:
        PublishConflictError: that happened `ATTEMPTS` times in a row.
    """
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except PublishConflictError as error:
            logger.info("another writer published first, starting again: %s", error)
            lost = error
    raise PublishConflictError(f"{ATTEMPTS} times another writer published first: {lost}")


def now() -> str:
    """The time for a manifest: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
