"""A real server that speaks OpenAI's embeddings API, with a real text encoder behind it, and faults.

Owns: the wire: paths, the key, `index`, `usage`, base64, and what each fault looks like. The vectors are the encoder's own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import web

SLOW_S = 3.0
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(kw_only=True)
class EmbeddingsServer:
    """What a test gives the server, and what it has seen."""

    encode: Encode
    key: str | None = None
    faults: list[str] = field(default_factory=list)
    """The next requests meet these, one each; then all is well."""
    always: str | None = None
    """Every request meets this fault."""
    pause_s: float = 0.0
    """So long takes every answer, besides."""
    port: int = 0
    sizes: list[int] = field(default_factory=list)
    """How many texts each request had that was answered."""
    times: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    num_at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, request: web.Request) -> web.Response:
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        self.times.append(asyncio.get_running_loop().time())
        try:
            return await self._answer(request, self.faults.pop(0) if self.faults else self.always)
        finally:
            self.num_at_once -= 1

    async def _answer(self, request: web.Request, fault: str | None) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        given = request.headers.get("Authorization", "")
        refusal = _refusal(fault, given)
        if refusal is not None:
            return refusal
        if self.key is not None and given != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {given}")
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        vectors = await asyncio.to_thread(self.encode, body["input"])
        vectors = vectors[:, : body.get("dimensions", vectors.shape[1])]
        await asyncio.sleep(self.pause_s)
        self.sizes.append(len(vectors))
        tokens = sum(len(text.split()) for text in body["input"])
        content = {"object": "list", "data": _data(vectors, body.get("encoding_format"), fault), "model": body["model"]}
        content["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.Response(text=json.dumps(content), content_type="application/json")


def _refusal(fault: str | None, given: str) -> web.Response | None:
    if fault is None:
        return None
    status, _, wait = fault.partition(" after ")
    if status.isdigit():
        return _error(int(status), "Rate limit reached", {"Retry-After": wait} if wait else {})
    if fault == "echo":
        return _error(400, f"your header was {given}")
    if fault == "echo a part":
        return _error(500, f"internal error near {given[-12:]}")
    return web.Response(text="<html>gateway</html>") if fault == "html" else None


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def _data(vectors: npt.NDArray[np.float32], encoding: str | None, fault: str | None) -> list[dict[str, Any]]:
    vectors = np.array(vectors)
    if fault == "nan":
        vectors[0, 3] = np.nan
    if fault == "dimension":
        vectors = vectors[:, :7]
    if fault == "count":
        vectors = vectors[:-1]
    items = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if encoding == "base64"
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    return items[::-1]  # the order is told by `index` alone


@contextmanager
def embeddings_server(encode: Encode, key: str | None = None) -> Iterator[EmbeddingsServer]:
    """A server in a thread of this process, on a free port of this machine."""
    server, loop, ready = EmbeddingsServer(encode=encode, key=key), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post("/v1/embeddings", server.handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
