"""What a user runs on damaged input, and the only two ways in which it may end: it works, or it is refused clearly.

Owns: the actions, and the child process in which they run. A crash of a library (a signal), a hang or a bomb in the child
is a finding, not the end of the tests. The child has Ray Data's extension types registered, as workers have. Times are in
seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fct_ray.errors import FctRayError

LIMIT_S = 30.0
"""For one action: all take milliseconds, but the machine may be busy."""
MEMORY_BYTES = 8 << 30
"""Address space of the child, so that a bomb is an error there and no harm to the machine."""
Answer = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Actions:
    """Each takes damaged bytes, puts them where a user would have them, and does what users do with them."""

    store: Path
    scratch: Path

    def parquet(self, data: bytes) -> None:
        """Pairs, queries, a file to adopt, a shard, a table of another run."""
        from fct_ray.kinds import OnBadRow
        from fct_ray.plan.portions import Piece, Portion
        from fct_ray.shards.inspected_objects import inspect_portion
        from fct_ray.storage.object_schema import check_object
        from fct_ray.values import AdoptedLayout

        def _inspect(uri: str) -> object:
            portion = Portion(pieces=(Piece(uri=uri),))
            return [inspect_portion(portion, AdoptedLayout(), on_bad_row) for on_bad_row in OnBadRow]

        def _check(uri: str) -> object:
            return check_object(uri, AdoptedLayout())

        from fct_ray.storage import pairs, shards

        uri = self._put("input.parquet", data)
        for read in (pairs.read_pairs, pairs.read_queries, pairs.read_ids, pairs.read_table, _inspect, _check):
            refusal(read, uri)
        columns = shards.parse_shard(data, uri, dimension=None, side_dimension=None)
        shards.encode_table(shards.with_embeddings(columns.table, columns.embeddings_ND))

    def index(self, data: bytes) -> None:
        """Search a version one of whose index files is this, under a manifest that says so."""
        from fct_ray.index.search import describe
        from fct_ray.workflows.search import open_searcher

        path = self.store / "versions/000002/index/00001.faiss"
        refusal(describe, data)
        with replaced(path, data), republished(self.store, path):
            searcher = open_searcher(str(self.store), "now-api")
            scores_QK, ids_QK = searcher.search(np.eye(2, searcher.manifest.dimension, dtype=np.float32), 5)
            assert scores_QK.shape == ids_QK.shape == (2, 5)

    def weights(self, data: bytes) -> None:
        """Load a model with these weights, whose document names their hash."""
        self._load({"weights_sha256": hashlib.sha256(data).hexdigest()}, data)

    def architecture(self, data: bytes) -> None:
        """Load a model with this architecture (JSON), fingerprinted anew."""
        self._load({"architecture": json.loads(data)}, None)

    def model_json(self, data: bytes) -> None:
        """Load a model with this document."""
        from fct_ray.shards.model_directory import load_model
        from tests.fuzz.small_store import packed_transformation

        self._put("model.json", data)
        self._put("weights.safetensors", packed_transformation().weights)
        load_model(str(self.scratch))

    def _load(self, changes: dict[str, Any], weights: bytes | None) -> None:
        from fct_ray.models.model_json import fingerprint_of
        from fct_ray.shards.model_directory import load_model
        from tests.fuzz.small_store import packed_transformation

        packed = packed_transformation()
        document = dataclasses.replace(packed.document, **changes)
        content = dataclasses.asdict(dataclasses.replace(document, fingerprint=fingerprint_of(document)))
        self._put("model.json", json.dumps(content).encode())
        self._put("weights.safetensors", packed.weights if weights is None else weights)
        load_model(str(self.scratch))

    def _put(self, name: str, data: bytes) -> str:
        (self.scratch / name).write_bytes(data)
        return str(self.scratch / name)


class Child:
    """A process that runs actions; started again after it died."""

    def __init__(self, actions: Actions) -> None:
        self.actions, self._context = actions, multiprocessing.get_context("spawn")
        self._process: Any = None
        self._connection: Any = None

    def run(self, action: str, data: bytes) -> bool:
        """Whether the action worked; False if it was refused with a message. Anything else fails the test."""
        if self._process is None:
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(self.actions, theirs), daemon=True)
            self._process.start()
            theirs.close()
            self._connection.recv()
        self._connection.send((action, data))
        if not self._connection.poll(LIMIT_S):
            self._process.kill()
            self.close()
            raise AssertionError(f"{action}: still running after {LIMIT_S} s")
        try:
            kind, text = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            raise AssertionError(f"{action}: the process died with exit code {code} (negative: a signal)") from None
        assert kind in {"works", "refused"}, f"{action}: an error that is not ours\n{text}"
        assert kind == "works" or text.strip(), f"{action}: refused without a message"
        return bool(kind == "works")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.join(10)
            if self._process.is_alive():
                self._process.kill()
            self._process = None


def _serve(actions: Actions, connection: Connection) -> None:
    import ray.data  # noqa: F401

    copy = actions.scratch / f"store-{os.getpid()}"  # its own: it may die while a file is replaced
    actions = dataclasses.replace(actions, store=shutil.copytree(actions.store, copy))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    connection.send("ready")
    while True:
        try:
            action, data = connection.recv()
        except EOFError:
            return
        connection.send(_answer(getattr(actions, action), data))


def _answer(action: Any, data: bytes) -> Answer:
    try:
        action(data)
    except FctRayError as error:
        return "refused", str(error)
    except BaseException:  # noqa: BLE001 (the boundary of the child: the test judges it)
        return "foreign", traceback.format_exc()
    return "works", ""


def refusal(action: Callable[..., object], *arguments: object) -> str:
    """The message with which an action was refused, "" if it worked; a refusal must have one."""
    try:
        action(*arguments)
    except FctRayError as error:
        message = str(error).strip()
    else:
        return ""
    assert message
    return message


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    """The file has other bytes for the time of the block."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def republished(store: Path, path: Path) -> Iterator[None]:
    """The manifest of version 2 and CURRENT have the hash of the object at `path` for the time of the block."""
    manifest_path = store / "versions/000002/manifest.json"
    manifest = json.loads(manifest_path.read_text())
    for record in manifest["shards"]:
        for ref in (record["embeddings"], record["index"]):
            if store / ref["path"] == path:
                ref["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    data = json.dumps(manifest).encode()
    with replaced(manifest_path, data), replaced(store / "CURRENT.json", pointing_at(store, data)):
        yield


def pointing_at(store: Path, manifest: bytes) -> bytes:
    """CURRENT.json of this store, if these were the bytes of its manifest."""
    current = json.loads((store / "CURRENT.json").read_text())
    return json.dumps(current | {"sha256": hashlib.sha256(manifest).hexdigest()}).encode()
