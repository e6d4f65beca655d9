"""Appends to and deletes from a store, one edit after the other, and starts again where it was killed.

    python -m tests.chaos.writer STORE DIRECTORY      with DIRECTORY/00-append.parquet, 01-delete.parquet, ...

Owns: its diary, DIRECTORY/diary.txt: "begun 0", then "done 0" or "refused 0". It runs in the Ray cluster of RAY_ADDRESS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected
from fct_ray.errors import DataError, EncoderMismatchError
from fct_ray.storage.store import Store
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.delete import DeleteSettings, delete
from tests.chaos.edits import Edit, Kind, Outcome, Tried
from tests.fashion_vectors import Vectors
from tests.galleries import write_ids, write_rows


def write_edits(directory: Path, made: Sequence[Edit], vectors: Vectors) -> None:
    """The files that the writer works off."""
    directory.mkdir()
    for position, edit in enumerate(made):
        path = directory / f"{position:02d}-{edit.kind}.parquet"
        if edit.kind is Kind.APPEND:
            write_rows(path, vectors, edit.rows)
        else:
            write_ids(path, vectors.ids_N[edit.rows])


def read_diary(directory: Path) -> dict[int, Tried]:
    """How often each edit was begun and how it ended; edits without an end are left out."""
    diary = directory / "diary.txt"
    lines = [line.split() for line in diary.read_text().splitlines()] if diary.exists() else []
    ends = {int(position): Outcome(word) for word, position in lines if word != "begun"}
    return {
        position: Tried(times=lines.count(["begun", str(position)]), outcome=outcome)
        for position, outcome in ends.items()
    }


def _run(store: str, directory: Path) -> None:
    with connected(ClusterSettings()) as size:
        for path in sorted(directory.glob("*.parquet")):
            position, kind = path.stem.split("-")
            if int(position) in read_diary(directory):
                continue
            _note(directory, f"begun {int(position)}")
            _note(directory, f"{_edit(store, path, Kind(kind), size)} {int(position)}")


def _edit(store: str, path: Path, kind: Kind, size: ClusterSize) -> Outcome:
    if kind is Kind.DELETE:
        delete(DeleteSettings(store=store, ids=str(path), missing_ok=True))
        return Outcome.DONE
    try:
        append(AppendSettings(store=store, encoder="old-api", embeddings=str(path)), size)
    except EncoderMismatchError:
        return Outcome.REFUSED
    except DataError:
        if not _has(store, path):
            raise
    return Outcome.DONE


def _has(store: str, path: Path) -> bool:
    """Whether all items of a file are in the gallery: the edit was published, and killed before it could say so."""
    opened = Store(store)
    there = {
        number
        for record in opened.manifest().shards
        for number in pq.read_table(opened.uri_of(record.embeddings.path), columns=["id"])["id"].to_pylist()
    }
    return set(pq.read_table(path, columns=["id"])["id"].to_pylist()) <= there


def _note(directory: Path, line: str) -> None:
    with (directory / "diary.txt").open("a") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]))
