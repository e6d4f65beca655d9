"""A proxy before a real S3 server that injects faults; also `python tests/faulty_s3.py --upstream URL --share 0.1`.

Owns: what a fault looks like on the wire, and which request meets one. Every request that is not refused is done by
the real server, every answer is its own. Knows nothing of fct_ray. Times are in seconds.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias
from urllib.parse import unquote

import tyro


class Fault(StrEnum):
    """What can happen to a request. Whether the server has done it then is part of the fault."""

    SLOW_DOWN = "slow-down"
    """Not done: 503 SlowDown."""
    DENIED = "denied"
    """Not done: 403 AccessDenied, which some servers say under load."""
    EXPIRED = "expired"
    """Not done: 400 ExpiredToken. No repetition helps."""
    CONFLICT = "conflict"
    """Not done, conditional puts only: 409 ConditionalRequestConflict."""
    RESET = "reset"
    """Not done: the connection is reset before an answer."""
    DEAF = "deaf"
    """Not done: the request's body is not taken for `stall_s`, then the connection is reset."""
    LOST = "lost"
    """Done, and the connection is closed without an answer."""
    REPEATED = "repeated"
    """Done twice, as by a client that repeats by itself; the answer is the second one (412 for conditional puts)."""
    CUT = "cut"
    """Done; the connection is closed in the middle of the answer."""
    CUT_BY_RESET = "cut-by-reset"
    """Done; the connection is reset in the middle of the answer."""
    STALL = "stall"
    """Done; the answer comes `stall_s` later."""
    TRICKLE = "trickle"
    """Done; the answer's body comes at `trickle_bytes_per_s`."""


PASSING = tuple(fault for fault in Fault if fault is not Fault.EXPIRED)
CONDITIONAL_ONLY = {Fault.CONFLICT, Fault.REPEATED}
_REFUSALS = {
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.DENIED: (403, "AccessDenied", "Access Denied"),
    Fault.EXPIRED: (400, "ExpiredToken", "The provided token has expired."),
    Fault.CONFLICT: (409, "ConditionalRequestConflict", "A conflicting operation occurred."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What decides which fault a request meets."""

    method: str
    path: str
    """Decoded, with the query: `/bucket/key?partNumber=1`."""
    nth: int
    """How many such requests (method and path) there were before."""
    is_conditional: bool


Schedule: TypeAlias = Callable[[Request], Fault | None]


def no_faults(request: Request) -> Fault | None:
    """Every request goes through."""
    return None


def random_faults(seed: int, shares: Mapping[Fault, float]) -> Schedule:
    """Each fault meets the given share of requests (of conditional puts, where it is a fault of those).

    Drawn from the seed and the request alone: the third read of an object meets the same fault in every run, in
    whatever order threads and processes ask.
    """

    def draw(request: Request) -> Fault | None:
        point = random.Random(f"{seed} {request.method} {request.path} {request.nth}").random()  # noqa: S311
        for fault, share in shares.items():
            if request.is_conditional or fault not in CONDITIONAL_ONLY:
                point -= share
                if point < 0:
                    return fault
        return None

    return draw


@dataclass(kw_only=True, slots=True)
class FaultyS3:
    """A running proxy. Faults in `coming` are met first (None: go through); then those of `schedule`."""

    endpoint: str = ""
    schedule: Schedule = no_faults
    coming: list[Fault | None] = field(default_factory=list)
    stall_s: float = 30.0
    trickle_bytes_per_s: float = 10.0
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests so far, by method and path."""
    met: Counter[Fault] = field(default_factory=Counter)
    log: Callable[[str], object] = lambda _line: None
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, method: str, path: str, *, is_conditional: bool) -> Fault | None:
        """Count a request and say which fault it meets."""
        with self.lock:
            nth = self.seen[method, path]
            self.seen[method, path] += 1
            has_coming, fault = bool(self.coming), self.coming.pop(0) if self.coming else None
        if not has_coming:
            fault = self.schedule(Request(method=method, path=path, nth=nth, is_conditional=is_conditional))
        if fault is not None:
            with self.lock:
                self.met[fault] += 1
            self.log(f"{fault}: {method} {path}")
        return fault


@contextmanager
def faulty_s3(
    upstream: str,
    schedule: Schedule = no_faults,
    *,
    stall_s: float = 30.0,
    trickle_bytes_per_s: float = 10.0,
    port: int = 0,
    log: Callable[[str], object] = lambda _line: None,
) -> Iterator[FaultyS3]:
    """A proxy before the S3 server at `upstream` (`http://host:port`), on a free port of this machine by default."""
    faulty = FaultyS3(schedule=schedule, stall_s=stall_s, trickle_bytes_per_s=trickle_bytes_per_s, log=log)

    class Handler(_Handler):
        proxy, upstream_address = faulty, upstream.removeprefix("http://")

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        faulty.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield faulty
        finally:
            faulty.closing.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyS3
    upstream_address: str

    def handle(self) -> None:
        with suppress(ConnectionError, ValueError):  # the client hung up, or we did
            super().handle()

    def _pass_on(self) -> None:
        conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
        fault = self.proxy.fault_of(self.command, unquote(self.path), is_conditional=conditional)
        if fault is Fault.DEAF:
            self.proxy.closing.wait(self.proxy.stall_s)
            return self._reset()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in _REFUSALS:
            status, code, message = _REFUSALS[fault]
            answer = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            return self._answer(status, [("Content-Type", "application/xml")], answer, len(answer))
        if fault is Fault.RESET:
            return self._reset()
        status, headers, content, length = self._ask(body)
        if fault is Fault.REPEATED:
            status, headers, content, length = self._ask(body)
        if fault is Fault.STALL:
            self.proxy.closing.wait(self.proxy.stall_s)
        cut = fault in {Fault.CUT, Fault.CUT_BY_RESET}
        if fault is not Fault.LOST and (content or not cut):
            self._answer(status, headers, content[: len(content) // 2] if cut else content, length, fault)
        if fault is Fault.CUT_BY_RESET:
            self._reset()
        self.close_connection |= cut or fault is Fault.LOST
        return None

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes, int]:
        upstream = http.client.HTTPConnection(self.upstream_address, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        headers = [pair for pair in reply.getheaders() if pair[0].lower() not in {"content-length", "connection"}]
        return reply.status, headers, content, int(reply.headers.get("Content-Length", len(content)))

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, length: int, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not Fault.TRICKLE:
            self.wfile.write(content)
            return
        for position in range(len(content)):
            self.wfile.write(content[position : position + 1])
            if self.proxy.closing.wait(1 / self.proxy.trickle_bytes_per_s):
                return

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


def main(
    *,
    upstream: str,
    share: float = 0.05,
    seed: int = 0,
    kinds: tuple[Fault, ...] = PASSING,
    stall_s: float = 30.0,
    port: int = 18334,
) -> None:
    """Run a proxy that makes an S3 server unreliable, until Ctrl-C; says on stderr which request met which fault.

    Args:
        upstream: the server's address, e.g. http://127.0.0.1:18333 (`make s3`).
        share: the share of requests that meet a fault, divided evenly among the kinds.
        seed: the same seed gives the same faults to the same requests.
        kinds: the kinds of faults.
        stall_s: how long stalls last.
        port: where it answers on 127.0.0.1.
    """
    schedule = random_faults(seed, dict.fromkeys(kinds, share / len(kinds)))
    with faulty_s3(upstream, schedule, stall_s=stall_s, port=port, log=lambda line: print(line, file=sys.stderr)) as s3:
        print(f"# {share:.0%} of the requests to {upstream} meet a fault; Ctrl-C ends it. In another terminal:")
        print(f"export AWS_ENDPOINT_URL={s3.endpoint}", flush=True)
        signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        tyro.cli(main)
