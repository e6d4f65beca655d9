"""What users of S3 report (throttling, lost answers, cut bodies, dead endpoints) is survived or said, never hung on.

The faults are made by a small proxy before the real server: every request and answer is a real one.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from fct_ray.errors import PublishConflictError, StoreError
from fct_ray.storage import objects, s3_objects
from tests.s3_server import S3Server

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class FaultyProxy(BaseHTTPRequestHandler):
    """Forwards requests; the next ones meet the faults in `faults`, first to last."""

    protocol_version = "HTTP/1.1"
    server_address: ClassVar[str]
    faults: ClassVar[list[str]]
    requests: ClassVar[int]

    def _forward(self) -> None:
        FaultyProxy.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faults.pop(0) if self.faults else ""
        if fault in {"slow down", "denied"}:
            status, answer = (503, SLOW_DOWN) if fault == "slow down" else (403, DENIED)
            return self._answer(status, [("Content-Type", "application/xml")], answer, len(answer))
        upstream = http.client.HTTPConnection(self.server_address, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        if fault == "answer lost":
            self.close_connection = True
            return None
        headers = [pair for pair in reply.getheaders() if pair[0].lower() not in {"content-length", "connection"}]
        length = int(reply.headers.get("Content-Length", len(content)))
        if fault == "body cut":
            content, self.close_connection = content[: len(content) // 2], True
        return self._answer(reply.status, headers, content, length)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


@pytest.fixture
def faults(s3: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The list of coming faults of a proxy that the environment now points to."""
    FaultyProxy.server_address, FaultyProxy.faults, FaultyProxy.requests = s3.endpoint.removeprefix("http://"), [], 0
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), FaultyProxy)
    Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    yield FaultyProxy.faults
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.parametrize("fault", ["slow down", "answer lost", "denied"])
def test_a_passing_fault_is_survived_by_every_operation(faults: list[str], s3_uri: str, fault: str) -> None:
    uri = f"{s3_uri}/x"
    for operation, wanted in (
        (lambda: objects.write_bytes(uri, b"x")[0], 1),
        (lambda: objects.read_bytes(uri), b"x"),
        (lambda: objects.size_bytes(uri), 1),
        (lambda: objects.list_uris(s3_uri), [uri]),
        (lambda: objects.delete_tree(uri), None),
    ):
        faults[:] = [fault]
        assert operation() == wanted
        assert faults == []


def test_a_body_cut_short_is_read_again(faults: list[str], s3_uri: str) -> None:
    objects.write_bytes(f"{s3_uri}/x", b"0123456789" * 1000)
    faults[:] = ["body cut", "body cut"]
    assert objects.read_bytes(f"{s3_uri}/x") == b"0123456789" * 1000


def test_a_swap_whose_answer_was_lost_is_known_to_have_won(faults: list[str], s3_uri: str) -> None:
    uri = f"{s3_uri}/pointer"
    faults[:] = ["answer lost"]
    assert objects.create(uri, b"1")
    faults[:] = ["", "answer lost"]  # the read, then the conditional put
    objects.compare_and_swap(uri, expected=b"1", new=b"2")
    assert objects.read_bytes(uri) == b"2"


def test_a_swap_that_lost_is_a_conflict_even_after_throttling(faults: list[str], s3_uri: str) -> None:
    uri = f"{s3_uri}/pointer"
    objects.write_bytes(uri, b"other")
    faults[:] = ["slow down"]
    assert not objects.create(uri, b"mine")
    faults[:] = ["slow down"]
    with pytest.raises(PublishConflictError, match="seen 'other'"):
        objects.compare_and_swap(uri, expected=b"1", new=b"mine")
    assert objects.read_bytes(uri) == b"other"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fewer attempts, only so that the test is short; the number is the bound that is checked."""
    monkeypatch.setattr(s3_objects, "ATTEMPTS", 4)
    return 4


def test_throttling_without_end_is_given_up_and_names_the_object(
    faults: list[str], s3_uri: str, impatient: int
) -> None:
    faults[:] = ["slow down"] * 100
    with pytest.raises(StoreError, match=rf"{s3_uri}/x: cannot read: .*reduce your request rate"):
        objects.read_bytes(f"{s3_uri}/x")
    assert FaultyProxy.requests == impatient


def test_a_dead_endpoint_is_said_with_its_address(s3_uri: str, impatient: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://test/.*127\.0\.0\.1:9"):
        objects.read_bytes(f"{s3_uri}/x")
    assert time.monotonic() - started < 30
