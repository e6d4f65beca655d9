"""Leases keep two processes from doing the same, and outlive nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import pytest

from fct_ray.errors import LeaseHeldError
from fct_ray.storage import documents, leases, objects
from fct_ray.storage.store import Store

CONTEXT = multiprocessing.get_context("spawn")


def _hold(environment: dict[str, str], root: str, taken: Any, ttl_s: float) -> None:
    os.environ.update(environment)
    with leases.take(Store(root), "run-a", "upgrade a", versions=(1,), ttl_s=ttl_s):
        taken.set()
        time.sleep(60)


def _other(root: str, ttl_s: float = 30.0) -> Any:
    taken = CONTEXT.Event()
    process = CONTEXT.Process(target=_hold, args=(dict(os.environ), root, taken, ttl_s), daemon=True)
    process.start()
    assert taken.wait(60)
    return process


def _as_if_on_another_machine(store: Store) -> None:
    uri = leases.uri_of(store, "run-a")
    lease = documents.load(leases.LeaseDocument, objects.read_bytes(uri), uri)
    holder = "elsewhere " + lease.holder.split(" ", 1)[1]
    objects.write_bytes(uri, documents.dump(leases.LeaseDocument(holder=holder, purpose="x", versions=(7,), ttl_s=1.0)))


def test_a_run_of_a_living_process_is_refused_at_once_and_named(root: str) -> None:
    process = _other(root)
    started = time.monotonic()
    with pytest.raises(LeaseHeldError, match=f"upgrade a is at work in process .* {process.pid} "):
        leases.take(Store(root), "run-a", "upgrade a again")
    assert time.monotonic() - started < 5
    process.kill()
    process.join()


def test_a_killed_holder_on_this_machine_is_taken_over_at_once(root: str) -> None:
    process = _other(root)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    started = time.monotonic()
    with leases.take(Store(root), "run-a", "upgrade a again"):
        assert time.monotonic() - started < 5


def test_a_holder_elsewhere_that_stopped_renewing_is_taken_over_after_its_time(root: str) -> None:
    store = Store(root)
    process = _other(root)
    process.kill()
    process.join()
    _as_if_on_another_machine(store)
    assert leases.live_leases(store) == {}, "watched for its time, it was not renewed"
    started = time.monotonic()
    leases.take(store, "run-a", "y").release()
    assert 0.9 < time.monotonic() - started < 5


def test_a_lease_taken_over_is_noticed_by_the_one_that_lost_it(root: str) -> None:
    store = Store(root)
    lease = leases.take(store, "run-a", "x", ttl_s=1.0)
    _as_if_on_another_machine(store)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            lease.check()
        except LeaseHeldError:
            break
        time.sleep(0.05)
    with pytest.raises(LeaseHeldError, match="run the same command again"):
        lease.check()
    lease.release()
    with pytest.raises(LeaseHeldError):
        lease.check()


def test_who_waits_gets_the_lease_when_it_is_released(root: str) -> None:
    store = Store(root)
    first = leases.take(store, leases.PUBLISH, "append", ttl_s=2.0)
    release = threading.Timer(1.0, first.release)
    release.start()
    with leases.publishing(store, "upgrade", patience_s=20):
        assert set(leases.live_leases(store)) == {leases.PUBLISH}
    assert leases.live_leases(store) == {}
    assert leases.names(store) == [leases.PUBLISH]


OF_AN_EARLIER_RELEASE = """{
 "beat": 12,
 "holder": "%s",
 "purpose": "upgrade-1",
 "ttl_s": 30.0,
 "versions": [
  1
 ]
}
"""


def test_leases_that_earlier_releases_wrote_are_read_taken_over_and_respected(root: str) -> None:
    store = Store(root)
    released, held = leases.uri_of(store, "upgrade-1"), leases.uri_of(store, "upgrade-2")
    objects.write_bytes(released, (OF_AN_EARLIER_RELEASE % "").encode())
    objects.write_bytes(held, (OF_AN_EARLIER_RELEASE % leases.this_process()).encode())
    assert leases.live_leases(store).keys() == {"upgrade-2"}
    assert leases.live_leases(store)["upgrade-2"].renewals == 12
    with pytest.raises(LeaseHeldError, match="upgrade-1 is at work"):
        leases.take(store, "upgrade-2", "upgrade-2")
    with leases.take(store, "upgrade-1", "upgrade-1 again"):
        assert leases.live_leases(store)["upgrade-1"].purpose == "upgrade-1 again"
