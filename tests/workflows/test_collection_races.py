"""Everything that can happen between the steps of a collection happens here, on purpose: each order of both, in turn."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fct_ray.errors import LeaseHeldError
from fct_ray.storage import documents, leases, objects
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ObjectRef, Receipt, Usage
from fct_ray.workflows.garbage_collection import Step, collect
from fct_ray.workflows.run_usage import RunUsage
from tests.plan.manifests import parent_manifest

RUN = "append-2"
SHARDS, FLOPS = (0, 1), 7.0
GAPS = ("before", Step.LISTED, Step.DECIDED, Step.RUN_BEGINS, Step.DOCUMENTS_GONE, "after")


def _write(store: Store, version: int, shard: int) -> ObjectRef:
    path, content = store.shard_path(version, shard), f"shard {shard}".encode()
    size, sha256 = objects.write_bytes(store.uri_of(path), content)
    return ObjectRef(path=path, bytes=size, sha256=sha256)


def _manifest(store: Store, version: int, receipts: list[Receipt], run: str) -> Manifest:
    records = tuple(receipt.record for receipt in receipts)
    return dataclasses.replace(
        parent_manifest(),
        version=version,
        parent=version - 1 or None,
        shards=records,
        num_rows=sum(record.rows for record in records),
        run=run,
    )


class Run:
    """A run as `workflows/commit` does it, one step at a time."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name, self.version = store, name, 0
        self.lease: Lease | None = None

    def take_lease(self) -> None:
        self.lease = leases.take(self.store, self.name, self.name)

    def claim(self) -> None:
        current = self.store.current()
        self.version = self.store.claim_version(self.name, None if current is None else current.version)

    def write(self, shards: tuple[int, ...] = SHARDS) -> None:
        done = {receipt.record.shard for receipt in self.store.ledger(self.name)}
        for shard in sorted(set(shards) - done):
            ref = _write(self.store, self.version, shard)
            record = dataclasses.replace(parent_manifest().shards[shard], embeddings=ref)
            receipt = Receipt(run=self.name, record=record, usage=Usage(flops=FLOPS), peak_memory_bytes=0, worker="")
            self.store.write_receipt(self.version, receipt)

    def publish(self) -> None:
        assert self.lease is not None
        with leases.publishing(self.store, self.name, patience_s=0):
            self.lease.check()
            receipts = self.store.ledger(self.name)
            assert [receipt.record.shard for receipt in receipts] == list(SHARDS)
            self.store.publish(_manifest(self.store, self.version, receipts, self.name), expected=self.store.current())
        self.die()

    def die(self) -> None:
        if self.lease is not None:
            self.lease.release()
            self.lease = None

    def steps(self) -> list[Callable[[], None]]:
        return [self.take_lease, self.claim, self.write, self.publish]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version."""
    store = Store(str(tmp_path_factory.mktemp("store") / "store"))
    for step in Run(store, "embed-1").steps():
        step()
    return Path(store.uri)


def _waits(store: Store, names: set[str]) -> bool:
    """Whether a process would have to wait for a collection that holds one of these leases."""
    living = leases.live_leases(store)
    return any(name in living and living[name].purpose == leases.COLLECTING for name in names)


def _play(store: Store, run: Run, at: tuple[int, ...]) -> None:
    """A collection, with each step of the run in its gap, or later where it has to wait."""
    left = list(zip(at, run.steps(), strict=True))

    def until(gap: int) -> None:
        while left and left[0][0] <= gap:
            needs = {run.take_lease: {RUN}, run.publish: {leases.PUBLISH}}.get(left[0][1], set())
            if _waits(store, needs):
                return
            left.pop(0)[1]()

    def meanwhile(step: Step) -> None:
        if step in GAPS:
            until(GAPS.index(step))

    until(0)
    collect(store, keep=1, purge=False, meanwhile=meanwhile)
    until(len(GAPS) - 1)
    assert left == []


def _check(store: Store) -> None:
    current, manifest = store.pinned()
    assert manifest.run == RUN
    assert store.claims()[current.version].run == RUN
    for record in manifest.shards:
        assert store.read(record.embeddings) == f"shard {record.shard}".encode()


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory where there is such a file system: hundreds of stores are made."""
    memory = Path("/dev/shm")  # noqa: S108
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("was_killed_before", [False, True])
def test_a_run_that_begins_or_goes_on_during_a_collection_publishes_a_whole_version(
    published: Path, directory: Path, was_killed_before: bool
) -> None:
    for number, at in enumerate(combinations_with_replacement(range(len(GAPS)), 4)):
        store = Store(str(directory / f"{number}"))
        shutil.copytree(published, store.uri)
        if was_killed_before:
            killed = Run(store, RUN)
            killed.take_lease()
            killed.claim()
            killed.write(SHARDS[:1])
            killed.die()
        try:
            _play(store, Run(store, RUN), at)
            _check(store)
        except Exception as error:
            raise AssertionError(f"with the run's steps in the gaps {[str(GAPS[gap]) for gap in at]}") from error
        shutil.rmtree(store.uri)


class _InterruptedError(Exception):
    pass


@pytest.mark.parametrize("step", Step)
def test_after_a_collection_that_was_interrupted_a_killed_run_goes_on_to_a_whole_version(
    published: Path, tmp_path: Path, step: Step
) -> None:
    store = Store(str(tmp_path / "store"))
    shutil.copytree(published, store.uri)
    for end in (Run.claim, Run.write):
        killed = Run(store, RUN)
        killed.take_lease()
        killed.claim()
        end(killed)
        killed.die()

    def meanwhile(now: Step) -> None:
        if now is step:
            raise _InterruptedError

    with pytest.raises(_InterruptedError):
        collect(store, keep=1, purge=False, meanwhile=meanwhile)
    collected = step is Step.DOCUMENTS_GONE
    assert RunUsage(store, RUN).used()["stream"].flops == 2 * FLOPS, "what the killed run spent is not forgotten"
    for do in Run(store, RUN).steps():
        do()
    _check(store)
    assert RunUsage(store, RUN).used()["stream"].flops == (4 if collected else 2) * FLOPS


def test_a_collection_that_was_suspended_until_others_published_deletes_nothing_more(
    published: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    shutil.copytree(published, store.uri)
    killed = Run(store, RUN)
    for step in killed.steps()[:-1]:
        step()
    killed.die()

    def meanwhile(now: Step) -> None:
        if now is Step.RUN_BEGINS:  # as after minutes without a renewal: another has taken over, and given back
            objects.write_bytes(
                leases.uri_of(store, leases.PUBLISH), documents.dump(leases.LeaseDocument(holder="", purpose="another"))
            )
            for do in Run(store, RUN).steps():
                do()

    with pytest.raises(LeaseHeldError, match="it is another's now"):
        collect(store, keep=1, purge=False, meanwhile=meanwhile)
    _check(store)
