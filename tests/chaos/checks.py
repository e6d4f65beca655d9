"""What must be true of a store when a disturbed upgrade has ended: with pyarrow, faiss and hashes, as a foreign reader.

Owns: those checks; each returns what is wrong, in words, so that one episode can show several things. Legend: N rows,
W dimensions of the new encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.index import search
from fct_ray.storage import leases
from fct_ray.storage.store import Store
from tests.chaos.scenes import report_of
from tests.chaos.sight import receipts

USAGE_THAT_STANDS = (
    ("stream", "rows"),
    ("stream", "flops"),
    ("stream", "bytes_read"),
    ("stream", "bytes_written"),
    ("fit", "rows"),
    ("fit", "flops"),
)
SAME = 1e-4  # of a unit vector's product with itself, in float32
CLOSE = {"float32": 1e-5, "bfloat16": 2e-2}
"""How far an embedding of length 1 may be from float32 in batches of other sizes, by what h was computed in: where a CPU is
faster in bfloat16 upgrades choose it, 6e-3 was seen there. Another row's embedding is a tenth and more away."""


def same_as_undisturbed(store: Path, undisturbed: Path) -> list[str]:
    """Every object of the new version, byte by byte, and its manifest but for the time; no file more and none less."""
    version, problems = "versions/000002", []
    names, wanted = _files(store / version), _files(undisturbed / version)
    if names != wanted:
        problems.append(f"files of {version} differ: {sorted(names ^ wanted)}")
    problems += [
        f"{version}/{name} has other bytes"
        for name in sorted(name for name in names & wanted if name.startswith(("shards/", "index/")))
        if (store / version / name).read_bytes() != (undisturbed / version / name).read_bytes()
    ]
    if _manifest(store) | {"created_at": ""} != _manifest(undisturbed) | {"created_at": ""}:
        problems.append("the manifest differs in more than its time")
    return problems


def usage_adds_up(store: Path, undisturbed: Path) -> list[str]:
    """The report counts the work that stands once, however often it was interrupted."""
    seen, wanted = report_of(store), report_of(undisturbed)
    problems = [
        f"the report says {values[0]} for {stage}.{field}; undisturbed it is {values[1]}"
        for stage, field in USAGE_THAT_STANDS
        if (values := [report["stages"].get(stage, {}).get(field) for report in (seen, wanted)])[0] != values[1]
    ]
    return problems + [
        f"the report says {field} {seen[field]}; undisturbed it is {wanted[field]}"
        for field in ("rows", "version", "run")
        if seen[field] != wanted[field]
    ]


def whole(store: Path, ids: Collection[int]) -> list[str]:
    """CURRENT, manifest and objects agree by hash; every id is there exactly once, in shards and in indexes."""
    current = json.loads((store / "CURRENT.json").read_text())
    raw = (store / current["manifest"]).read_bytes()
    problems = (
        [] if hashlib.sha256(raw).hexdigest() == current["sha256"] else ["CURRENT has another hash than the manifest"]
    )
    stored, indexed = [], []
    for shard in json.loads(raw)["shards"]:
        table = pq.read_table(pa.BufferReader(_read(store, shard["embeddings"], problems)))
        index = _read(store, shard["index"], problems)
        stored.append(table["id"].to_numpy())
        indexed.append(np.asarray(search.describe(index).ids_N))
        problems += _not_found(index, stored[-1], _matrix(table), shard["index"]["path"])
    wanted = np.sort(np.fromiter(ids, dtype=np.int64))
    for name, parts in (("shards", stored), ("indexes", indexed)):
        found = np.sort(np.concatenate(parts))
        if not np.array_equal(found, wanted):
            twice = len(found) - len(np.unique(found))
            lost, foreign = len(np.setdiff1d(wanted, found)), len(np.setdiff1d(found, wanted))
            problems.append(f"{name}: of {len(wanted)} ids {lost} are lost, {twice} are doubled, {foreign} are foreign")
    return problems


def transformed(store: Path, ids_N: npt.NDArray[np.int64], wanted_NW: npt.NDArray[np.float32]) -> list[str]:
    """Every embedding is h of its row's old one, as computed here at once."""
    place = {int(number): position for position, number in enumerate(ids_N)}
    problems, manifest = [], _manifest(store)
    close = CLOSE[manifest["transformation"].get("precision", "float32")]
    for shard in manifest["shards"]:
        table = pq.read_table(store / shard["embeddings"]["path"])
        rows = [place[number] for number in table["id"].to_pylist()]
        worst = float(np.abs(_matrix(table) - wanted_NW[rows]).max())
        if worst > close:
            problems.append(f"{shard['embeddings']['path']}: an embedding is {worst:.1e} off")
    return problems


def not_done_again(store: Path, finished: Mapping[str, int]) -> list[str]:
    """Receipts that lay there at some kill were not written again."""
    now = receipts(store)
    again = sorted(path for path, written_ns in finished.items() if now.get(path) != written_ns)
    return [f"finished shards were done again: {again}"] if again else []


def nobody_at_work(store: Path) -> list[str]:
    """No lease is held by a living process."""
    living = leases.live_leases(Store(str(store)))
    return [f"leases are held: {sorted(living)}"] if living else []


def current_version(store: Path) -> int:
    """What CURRENT points at."""
    return int(json.loads((store / "CURRENT.json").read_text())["version"])


def stored_ids(store: Path) -> list[int]:
    """All ids of the published version, as often as they are there."""
    paths = [store / shard["embeddings"]["path"] for shard in _manifest(store)["shards"]]
    return [number for path in paths for number in pq.read_table(path, columns=["id"])["id"].to_pylist()]


def _not_found(
    index: bytes, ids_N: npt.NDArray[np.int64], embeddings_NW: npt.NDArray[np.float32], path: str
) -> list[str]:
    scores, found = faiss.deserialize_index(np.frombuffer(index, dtype=np.uint8)).search(embeddings_NW, 1)
    lost = int((~np.isin(found[:, 0], ids_N) | (np.abs(scores[:, 0] - 1) > SAME)).sum())
    return [f"{path}: {lost} of {len(ids_N)} vectors do not find themselves"] if lost else []


def _read(store: Path, ref: Mapping[str, Any], problems: list[str]) -> bytes:
    data: bytes = (store / ref["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != ref["sha256"]:
        problems.append(f"{ref['path']} has another hash than the manifest says")
    return data


def _manifest(store: Path) -> dict[str, Any]:
    current = json.loads((store / "CURRENT.json").read_text())
    manifest: dict[str, Any] = json.loads((store / current["manifest"]).read_text())
    return manifest


def _files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def _matrix(table: pa.Table) -> npt.NDArray[np.float32]:
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    return np.ascontiguousarray(flat.reshape(len(table), -1), dtype=np.float32)
