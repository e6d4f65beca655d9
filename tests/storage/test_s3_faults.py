"""What users of S3 report (throttling, lost answers, cut bodies, stalls, dead endpoints) is survived or said, never hung on.

The faults are made by a proxy before the real server (`tests/faulty_s3.py`): every request and answer is a real one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from pyarrow.fs import FileSelector

from fct_ray.errors import NotFoundError, StoreError
from fct_ray.storage import objects, s3_objects, s3_requests
from tests.faulty_s3 import CONDITIONAL_ONLY, PASSING, Fault, FaultyS3, Request, no_faults
from tests.s3_server import S3Server

OLD, NEW, LARGE = b"old bytes " * 3000, b"new bytes " * 3000, b"new large " * 1_200_000
SLOW = (Fault.STALL, Fault.DEAF, Fault.TRICKLE)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """LARGE goes up in three parts of the least size that S3 allows."""
    monkeypatch.setattr(s3_objects, "PART_BYTES", 5 * 1024 * 1024)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> int:
    """Shorter bounds, only so that the test is short; the number of attempts is a bound that is checked."""
    monkeypatch.setattr(s3_requests, "ATTEMPTS", 3)
    _cut_sooner(monkeypatch)
    return 3


def _cut_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "STALL_S", 1.0)
    monkeypatch.setattr(s3_requests, "SLOWEST_BYTES_PER_S", 4 * 1024 * 1024)


def _arrow_read(root: str) -> bytes:
    filesystem, path = objects.arrow_filesystem(f"{root}/there")
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def _arrow_range(root: str) -> bytes:
    filesystem, path = objects.arrow_filesystem(f"{root}/there")
    with filesystem.open_input_file(path) as file:
        file.seek(100)
        return bytes(file.read(4900))


def _arrow_write(root: str) -> bytes:
    filesystem, path = objects.arrow_filesystem(f"{root}/new")
    with filesystem.open_output_stream(path) as stream:
        stream.write(LARGE[:1000])
        stream.write(LARGE[1000:])
    return objects.read_bytes(f"{root}/new")


def _arrow_list(root: str) -> list[str]:
    filesystem, path = objects.arrow_filesystem(root)
    return [info.path for info in filesystem.get_file_info(FileSelector(path, recursive=True))]


def _arrow_delete(root: str) -> list[str]:
    filesystem, path = objects.arrow_filesystem(root)
    filesystem.delete_dir(path)
    return objects.list_uris(root)


def _write(root: str) -> bytes:
    objects.write_bytes(f"{root}/new", LARGE)
    return objects.read_bytes(f"{root}/new")


def _swap(root: str) -> bytes:
    objects.compare_and_swap(f"{root}/there", expected=OLD, new=NEW)
    return objects.read_bytes(f"{root}/there")


def _delete(root: str) -> list[str]:
    objects.delete_tree(f"{root}/there")
    return objects.list_uris(root)


Operation = tuple[Callable[[str], object], Callable[[str], object]]
"""What is done below a root that holds `there` with OLD, and what must come of it."""
READS: dict[str, Operation] = {
    "read": (lambda root: objects.read_bytes(f"{root}/there"), lambda _: OLD),
    "list": (objects.list_uris, lambda root: [f"{root}/there"]),
    "size": (lambda root: objects.size_bytes(f"{root}/there"), lambda _: len(OLD)),
    "arrow read": (_arrow_read, lambda _: OLD),
    "arrow range": (_arrow_range, lambda _: OLD[100:5000]),
    "arrow list": (_arrow_list, lambda root: [f"{root}/there".removeprefix("s3://")]),
}
WRITES: dict[str, Operation] = {
    "write": (_write, lambda _: LARGE),
    "create": (lambda root: objects.create(f"{root}/new", NEW), lambda _: True),
    "swap": (_swap, lambda _: NEW),
    "delete": (_delete, lambda _: []),
    "arrow write": (_arrow_write, lambda _: LARGE),
    "arrow delete": (_arrow_delete, lambda _: []),
}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_survived_by_every_operation(
    faulty: FaultyS3, s3_uri: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request of every kind for every object meets it: each read, each part, the end of the upload."""
    if fault in SLOW:
        _cut_sooner(monkeypatch)
    operations = READS | WRITES
    for name in operations:
        objects.write_bytes(f"{s3_uri}/{name}/there", OLD)
    faulty.seen.clear()
    faulty.schedule = lambda request: (
        fault if request.nth == 0 and (request.is_conditional or fault not in CONDITIONAL_ONLY) else None
    )
    with ThreadPoolExecutor(len(operations)) as threads:
        running = {name: threads.submit(act, f"{s3_uri}/{name}") for name, (act, _) in operations.items()}
    for name, (_, wanted) in operations.items():
        assert running[name].result() == wanted(f"{s3_uri}/{name}"), name
    assert faulty.met[fault] >= (2 if fault in CONDITIONAL_ONLY else len(operations))


NOT_DONE = [Fault.SLOW_DOWN, Fault.DENIED, Fault.EXPIRED, Fault.RESET, Fault.DEAF]
MAYBE_DONE = [Fault.LOST, Fault.CUT, Fault.CUT_BY_RESET, Fault.STALL]


@pytest.mark.usefixtures("impatient", "small_parts")
@pytest.mark.parametrize("fault", NOT_DONE + MAYBE_DONE)
def test_a_write_that_is_given_up_names_the_object_and_leaves_the_old_one_or_a_whole_one(
    faulty: FaultyS3, s3_uri: str, fault: Fault
) -> None:
    writes: dict[str, tuple[Callable[[str], object], bytes]] = {
        "write": (lambda uri: objects.write_bytes(uri, NEW), NEW),
        "write in parts": (lambda uri: objects.write_bytes(uri, LARGE), LARGE),
        "arrow write": (lambda uri: _write_through_arrow(uri, NEW), NEW),
        "arrow write in parts": (lambda uri: _write_through_arrow(uri, LARGE), LARGE),
        "create": (lambda uri: objects.create(uri, NEW), NEW),
        "swap": (lambda uri: objects.compare_and_swap(uri, expected=OLD, new=NEW), NEW),
    }
    before = {name: None if name == "create" else OLD for name in writes}
    for name in writes:
        if name != "create":
            objects.write_bytes(f"{s3_uri}/{name}", OLD)
    faulty.schedule = lambda request: fault if request.method != "GET" else None
    with ThreadPoolExecutor(len(writes)) as threads:
        running = {name: threads.submit(act, f"{s3_uri}/{name}") for name, (act, _) in writes.items()}
    for name in writes:
        with pytest.raises(StoreError, match=re.escape(f"{s3_uri}/{name}: cannot write: ")):
            running[name].result()
    faulty.schedule = no_faults
    for name, (_, new) in writes.items():
        seen = objects.read_bytes(f"{s3_uri}/{name}") if objects.exists(f"{s3_uri}/{name}") else None
        assert seen == before[name] or (seen == new and fault in MAYBE_DONE), name


def _write_through_arrow(uri: str, data: bytes) -> None:
    filesystem, path = objects.arrow_filesystem(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.DENIED, Fault.EXPIRED, Fault.RESET, Fault.CUT, *SLOW])
def test_a_read_that_is_given_up_names_the_object(faulty: FaultyS3, s3_uri: str, fault: Fault, impatient: int) -> None:
    objects.write_bytes(f"{s3_uri}/there", OLD)
    faulty.schedule = lambda _: fault
    reads = {name: act for name, (act, _) in READS.items() if not (name == "size" and fault is Fault.TRICKLE)}
    started_s = time.monotonic()
    with ThreadPoolExecutor(len(reads)) as threads:
        running = {name: threads.submit(act, s3_uri) for name, act in reads.items()}
    for name in reads:
        with pytest.raises(StoreError, match=rf"{s3_uri}/?(there)?: cannot \w.*: .*AWS_SESSION_TOKEN") as caught:
            running[name].result()
        assert not isinstance(caught.value, NotFoundError)
    assert time.monotonic() - started_s < 10
    asked = [count for (method, path), count in faulty.seen.items() if method == "GET" and path.endswith("/there")]
    if fault in {Fault.SLOW_DOWN, Fault.DENIED, Fault.EXPIRED}:
        wanted = 1 if fault is Fault.EXPIRED else impatient
        assert asked == [2 * wanted], "each of two readers asks so often"


def test_attempts_are_spread_over_growing_random_waits(
    faulty: FaultyS3, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "ATTEMPTS", 4)
    arrivals_s: dict[str, list[float]] = {}

    def storm(request: Request) -> Fault:
        arrivals_s.setdefault(request.path, []).append(time.monotonic())
        return Fault.SLOW_DOWN

    faulty.schedule = storm
    with ThreadPoolExecutor(8) as threads:
        for number in range(8):
            threads.submit(objects.exists, f"{s3_uri}/{number}")
    waits_s = [[b - a for a, b in itertools.pairwise(times)] for times in arrivals_s.values()]
    assert [len(waits) for waits in waits_s] == [3] * 8
    for position, bound_s in enumerate((0.4, 0.8, 1.6)):
        at = [waits[position] for waits in waits_s]
        assert max(at) < bound_s + 0.5
        assert max(at) - min(at) > bound_s / 8, "a storm must not come back all at once"


@pytest.mark.usefixtures("small_parts", "impatient")
def test_an_upload_in_parts_that_is_given_up_leaves_no_parts_behind(
    faulty: FaultyS3, s3: S3Server, s3_uri: str
) -> None:
    faulty.schedule = lambda request: Fault.SLOW_DOWN if "partNumber=3" in request.path else None
    for write in (lambda uri: objects.write_bytes(uri, LARGE), lambda uri: _write_through_arrow(uri, LARGE)):
        with pytest.raises(StoreError, match=rf"{s3_uri}/x: cannot write: .*reduce your request rate"):
            write(f"{s3_uri}/x")
    assert not objects.exists(f"{s3_uri}/x")
    assert _unfinished_uploads(s3, s3_uri) == []


@pytest.mark.usefixtures("small_parts")
def test_what_was_uploaded_when_the_answer_was_lost_is_known_to_be_complete(faulty: FaultyS3, s3_uri: str) -> None:
    faulty.schedule = lambda request: (
        Fault.LOST if request.method == "POST" and "uploadId" in request.path and request.nth == 0 else None
    )
    objects.write_bytes(f"{s3_uri}/x", LARGE)
    assert faulty.met[Fault.LOST] == 1
    assert objects.read_bytes(f"{s3_uri}/x") == LARGE


def test_a_large_object_arrives_whole_through_faults_in_every_part(faulty: FaultyS3, s3_uri: str) -> None:
    """130 MiB in three parts, each of which is first refused; then the answer is cut at 65 MiB."""
    data = os.urandom(1024) * (130 * 1024)
    faulty.schedule = lambda request: None if request.nth else Fault.CUT if request.method == "GET" else Fault.RESET
    objects.write_bytes(f"{s3_uri}/large", data)
    assert objects.read_bytes(f"{s3_uri}/large") == data
    assert faulty.met[Fault.RESET] >= 5
    assert faulty.met[Fault.CUT] == 1


def test_a_stall_of_30_s_is_cut_and_survived_with_the_bounds_of_everyday(faulty: FaultyS3, s3_uri: str) -> None:
    objects.write_bytes(f"{s3_uri}/there", OLD)
    faulty.seen.clear()
    faulty.schedule = lambda request: Fault.STALL if request.nth == 0 and request.method != "POST" else None
    started_s = time.monotonic()
    acts = [READS["read"][0], lambda root: objects.write_bytes(f"{root}/new", NEW), _arrow_read]
    with ThreadPoolExecutor(len(acts)) as threads:
        read, _, _ = list(threads.map(lambda act: act(s3_uri), acts))
    assert read == OLD
    assert s3_requests.STALL_S <= time.monotonic() - started_s < 29


@pytest.mark.usefixtures("impatient")
def test_a_dead_endpoint_is_said_with_its_address(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    s3_requests.connection().connect()  # loads botocore's models, which takes seconds on a busy machine; asks nobody
    started_s = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://test/.*127\.0\.0\.1:9"):
        objects.read_bytes(f"{s3_uri}/x")
    assert time.monotonic() - started_s < 3


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("waiting", [0, 8], ids=["packets vanish", "never answers"])
def test_an_endpoint_that_swallows_everything_is_given_up(
    s3_uri: str, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody accepts: once the queue of the listening socket is full, connections are not even established."""
    monkeypatch.setattr(s3_requests, "CONNECT_S", 1.0)
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(waiting)
        if not waiting:
            queued = stack.enter_context(socket.socket())
            queued.connect(listening.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        s3_requests.connection().connect()
        started_s = time.monotonic()
        with pytest.raises(StoreError, match=rf"{s3_uri}/x: cannot read: .*[Tt]ime"):
            objects.read_bytes(f"{s3_uri}/x")
        assert 3 <= time.monotonic() - started_s < 6


def test_an_endpoint_without_a_scheme_is_refused_with_its_value(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:18333")
    with pytest.raises(StoreError, match=rf"{s3_uri}/x: .*localhost:18333.*AWS_ENDPOINT_URL"):
        objects.read_bytes(f"{s3_uri}/x")


def _unfinished_uploads(s3: S3Server, prefix_uri: str) -> list[Any]:
    bucket, prefix = s3_requests.split(prefix_uri)
    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    uploads: list[Any] = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    return uploads
