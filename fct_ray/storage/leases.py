"""Leases: who is at work on what in a store, so that nobody does the same or deletes what another needs.

    <store>/leases/<name>.json    {"holder": "...", "renewals": 12, "ttl_s": 30.0, "versions": [1], ...}

Owns: taking, renewing, taking over and releasing a lease. No clock is ever compared with another machine's: a holder
is dead if it was a process of this machine that is gone, or if its lease was watched for `ttl_s` seconds and did not
change. A lease prevents waste and deletion; what is published is still decided by compare-and-swap alone.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import psutil

from fct_ray.errors import LeaseHeldError, NotFoundError, PublishConflictError, StoreError
from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store

logger = logging.getLogger(__name__)
TTL_S = 30.0
"""A holder that could not renew its lease for so long may be taken over."""
RENEWALS_PER_TTL = 4
POLL_S = 0.5
PUBLISH = "publish"
"""The lease of whoever moves CURRENT or deletes versions."""
PUBLISH_PATIENCE_S = 1800.0
"""An upgrade that catches up with the last changes holds it for as long as that takes."""
COLLECTING = "garbage collection"
"""The purpose of leases that a garbage collection holds. It holds a run's for moments: whoever wants that waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseDocument:
    """The content of a lease; `holder` is empty when it was released."""

    holder: str
    purpose: str
    versions: tuple[int, ...] = ()
    """Versions that must not be deleted while the lease is held."""
    renewals: int = 0
    """How often the holder has renewed it: whoever watches a lease sees that its holder lives."""
    ttl_s: float = TTL_S


class Lease:
    """A lease that this process holds and renews from a thread until it is released: by `with`, `release` or `delete`."""

    def __init__(self, store: Store, name: str, document: LeaseDocument) -> None:
        self._uri, self._document = uri_of(store, name), document
        self._released, self._lost, self._renewing = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self) -> None:
        """Raise LeaseHeldError if another process has taken the lease over, e.g. because this one was suspended."""
        if self._lost.is_set():
            raise LeaseHeldError(
                f"{self._uri}: this process could not renew its lease for {self._document.ttl_s:.0f} s, and it is "
                "another's now: stop here, and run the same command again when that one has ended"
            )

    def confirm(self) -> None:
        """Renew the lease now, which proves that nobody has taken it over since it was taken.

        Raises:
            LeaseHeldError: another process has taken it over.
            StoreError: it cannot be renewed.
        """
        with self._renewing:
            self._renew_now()
        self.check()

    def release(self) -> None:
        """Give the lease back; nothing happens if it was lost, and it runs out by itself if storage fails now."""
        self._released.set()
        self._thread.join()
        if self._lost.is_set():
            return
        try:
            _swap(self._uri, documents.dump(self._document), replace(self._document, holder=""))
        except StoreError as error:
            logger.warning("a lease was not given back and runs out by itself: %s", error)

    def delete(self) -> None:
        """Give back a lease whose name nobody else will ever ask for."""
        self.release()
        objects.delete([self._uri])

    def _renew(self) -> None:
        pause_s = self._document.ttl_s / RENEWALS_PER_TTL
        renewed_s = time.monotonic()
        while not self._released.wait(pause_s):
            try:
                with self._renewing:
                    self._renew_now()
            except StoreError as error:
                logger.warning("%s: cannot renew: %s", self._uri, error)
                if time.monotonic() - renewed_s > self._document.ttl_s:
                    self._lost.set()
                    return
                continue
            if self._lost.is_set():
                return
            renewed_s = time.monotonic()

    def _renew_now(self) -> None:
        renewed = replace(self._document, renewals=self._document.renewals + 1)
        if self._lost.is_set() or not _swap(self._uri, documents.dump(self._document), renewed):
            self._lost.set()
            return
        self._document = renewed


def publishing(store: Store, purpose: str, *, patience_s: float = PUBLISH_PATIENCE_S) -> Lease:
    """Take the store's publish lease: nobody else moves CURRENT or deletes versions meanwhile. Raises like `take`."""
    return take(store, PUBLISH, purpose, patience_s=patience_s)


def take(
    store: Store,
    name: str,
    purpose: str,
    *,
    versions: tuple[int, ...] = (),
    ttl_s: float = TTL_S,
    patience_s: float = 0.0,
) -> Lease:
    """Take a lease; one that its holder left behind is taken over.

    Raises:
        LeaseHeldError: a living process holds it, and did not release it within `patience_s` seconds; a garbage
            collection is given as long as it takes to publish.
    """
    uri = uri_of(store, name)
    mine = LeaseDocument(holder=this_process(), purpose=purpose, versions=versions, ttl_s=ttl_s)
    started_s = watched_since_s = time.monotonic()
    data, renewed = _read(uri), False
    while True:
        seen = _parse(data, uri)
        if seen is None or not _may_live(seen) or time.monotonic() - watched_since_s > seen.ttl_s:
            if _swap(uri, data, mine):
                if seen is not None and seen.holder:
                    logger.info("took over from %s (process %s), which has ended", seen.purpose, seen.holder)
                return Lease(store, name, mine)
        elif (renewed or _lives_here(seen)) and time.monotonic() - started_s >= _patience_s(seen, patience_s):
            raise LeaseHeldError(
                f"{uri}: {seen.purpose} is at work in process {seen.holder}; wait until it has ended, or stop it, then "
                "run again"
            )
        else:
            if watched_since_s == started_s:
                logger.info("waiting for %s in process %s, up to %.0f s", seen.purpose, seen.holder, seen.ttl_s)
            time.sleep(min(POLL_S, ttl_s / RENEWALS_PER_TTL / 2))
        before, data = data, _read(uri)
        if data != before:
            now = _parse(data, uri)
            renewed = seen is not None and now is not None and now.holder == seen.holder
            watched_since_s = time.monotonic()


def _patience_s(seen: LeaseDocument, patience_s: float) -> float:
    return max(patience_s, PUBLISH_PATIENCE_S) if seen.purpose == COLLECTING else patience_s


def live_leases(store: Store) -> dict[str, LeaseDocument]:
    """Every lease whose holder lives, by name; those of other machines are watched, until renewed or for their `ttl_s`."""
    seen = {name: lease for name in names(store) if (lease := _lease_at(uri_of(store, name))) and _may_live(lease)}
    living = {name: lease for name, lease in seen.items() if _lives_here(lease)}
    doubtful, started_s = {name: lease for name, lease in seen.items() if name not in living}, time.monotonic()
    while doubtful:
        time.sleep(min(POLL_S, *(lease.ttl_s / RENEWALS_PER_TTL for lease in doubtful.values())))
        for name, lease in list(doubtful.items()):
            now = _lease_at(uri_of(store, name))
            if now is not None and now != lease and _may_live(now):
                living[name] = now
            if name in living or now is None or not now.holder or time.monotonic() - started_s > lease.ttl_s:
                del doubtful[name]
    return living


def names(store: Store) -> list[str]:
    """Names of all leases that lie in the store, held or released."""
    return [name.removesuffix(".json") for name in objects.list_names(store.uri_of("leases")) if name.endswith(".json")]


def uri_of(store: Store, name: str) -> str:
    """Where a lease lies."""
    return store.uri_of(f"leases/{name}.json")


@functools.cache
def _machine() -> str:
    namespace = Path("/proc/self/ns/pid")
    inside = f"/{namespace.readlink()}" if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{uuid.getnode():x}{inside}"


def this_process() -> str:
    """`<machine> <process id> <its start>`: enough to tell on the same machine whether it still runs."""
    return f"{_machine()} {os.getpid()} {psutil.Process().create_time():.2f}"


def _may_live(lease: LeaseDocument) -> bool:
    """False if it was released, or its holder was a process of this machine that is gone."""
    return bool(lease.holder) and (_holder(lease)[0] != _machine() or _lives_here(lease))


def _lives_here(lease: LeaseDocument) -> bool:
    machine, process_id, created = _holder(lease)
    if machine != _machine():
        return False
    try:
        process = psutil.Process(int(process_id))
        return process.status() != psutil.STATUS_ZOMBIE and f"{process.create_time():.2f}" == created
    except (psutil.NoSuchProcess, ValueError):
        return False


def _holder(lease: LeaseDocument) -> tuple[str, str, str]:
    machine, process_id, created = ["", "", "", *lease.holder.rsplit(" ", 2)][-3:]
    return machine, process_id, created


def _lease_at(uri: str) -> LeaseDocument | None:
    return _parse(_read(uri), uri)


def _read(uri: str) -> bytes | None:
    try:
        return objects.read_bytes(uri)
    except NotFoundError:
        return None


def _parse(data: bytes | None, uri: str) -> LeaseDocument | None:
    if data is None:
        return None
    fields = documents.parse(data, uri)
    if isinstance(fields, dict) and "beat" in fields:  # what `renewals` was called in stores of before November 2026
        data = documents.dump({"renewals": fields.pop("beat"), **fields})
    return documents.load(LeaseDocument, data, uri)


def _swap(uri: str, expected: bytes | None, new: LeaseDocument) -> bool:
    try:
        objects.compare_and_swap(uri, expected=expected, new=documents.dump(new))
    except PublishConflictError:
        return False
    return True
