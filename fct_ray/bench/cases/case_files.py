"""An upgrade case on disk: what an upgrade may see, and beside it the truth that it may not.

    DIR/gallery/part-00000.parquet ...   id int64, embedding, side_info (if any), label int64 (if any)
    DIR/pairs.parquet                    id, embedding      the new model on a random sample of ids
    DIR/queries.parquet                  query int64, old, new, side (if any), label (if any), relevant list<int64>
    DIR/views/part-00000.parquet         id, text           of texts: what the index does not hold of them, if there is more
    DIR/new.parquet                      id, embedding      the truth: the new model over the whole gallery
    DIR/case.json                        name, task, counts, what is known about the right verdict, sources; written last

Vectors are fixed_size_list<float32> of length 1; ids are row numbers. Owns: these files' layout. Shapes: N gallery rows,
P pairs, Q queries, O/S/W numbers of an old/side/new vector.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import DataError, NotFoundError
from fct_ray.storage import shards
from fct_ray.storage.vector_columns import vector_array, vectors_of

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
ROWS_PER_SHARD = 20_000
ABOUT = "case.json"
VIEWS = "views"
VERSION = 2


class CaseTask(StrEnum):
    """What the index is asked for; an upgrade may help one and harm the other."""

    KNOWN_ITEM = "known-item"
    """Find this one item, from another view of it."""
    SIMILAR = "similar"
    """Find items of the same class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """Real queries, embedded by every model."""

    old_QO: FloatArray
    new_QW: FloatArray
    side_QS: FloatArray | None = None
    labels_Q: IdArray | None = None
    relevant: tuple[tuple[int, ...], ...]
    """Ids that each query must find."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseData:
    """A whole case in memory."""

    name: str
    task: CaseTask
    old_NO: FloatArray
    new_NW: FloatArray
    """The truth."""
    side_NS: FloatArray | None = None
    labels_N: IdArray | None = None
    pair_ids_P: IdArray
    """Ascending."""
    queries: Queries | None = None
    views_N: tuple[str, ...] | None = None
    """For texts: what follows the part that was embedded, for each row, or an empty text. Not read back."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """What can embed these views: the names of the "old", "new" and "side" encoders, as `--encoder` takes them."""
    known: Mapping[str, Any]
    """What is known about the right verdict, for `case.json`."""
    sources: Mapping[str, Any]
    """Where data and models come from, and the settings of this case."""


def write_case(directory: Path, case: CaseData) -> None:
    """Write all files, replacing what lay in `directory`; a killed run leaves no `case.json` there."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "gallery").mkdir(parents=True)
    num_rows = len(case.old_NO)
    ids_N = np.arange(num_rows, dtype=np.int64)
    for number, start in enumerate(range(0, num_rows, ROWS_PER_SHARD)):
        rows = slice(start, start + ROWS_PER_SHARD)
        side = None if case.side_NS is None else case.side_NS[rows]
        carried = {} if case.labels_N is None else {"label": case.labels_N[rows]}
        table = shards.build_table(ids_N[rows], case.old_NO[rows], side, carried)
        _write(directory / "gallery" / f"part-{number:05d}.parquet", table)
    pairs = shards.build_table(case.pair_ids_P, case.new_NW[case.pair_ids_P], None, {})
    _write(directory / "pairs.parquet", pairs)
    _write(directory / "new.parquet", shards.build_table(ids_N, case.new_NW, None, {}))
    if case.queries is not None:
        _write(directory / "queries.parquet", _queries_table(case.queries))
    if case.views_N is not None:
        _write_views(directory / VIEWS, ids_N, case.views_N)
    about = {
        "version": VERSION,
        "name": case.name,
        "task": case.task.value,
        "num_rows": num_rows,
        "num_pairs": len(case.pair_ids_P),
        "num_queries": 0 if case.queries is None else len(case.queries.relevant),
        "encoders": dict(case.encoders),
        "known": dict(case.known),
        "sources": dict(case.sources),
    }
    (directory / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def is_whole(directory: Path) -> bool:
    """Whether a complete case of this version lies there."""
    about = directory / ABOUT
    return about.is_file() and json.loads(about.read_text(encoding="utf-8"))["version"] == VERSION


def read_case(directory: Path) -> CaseData:
    """The case in `directory`, truth included.

    Raises:
        NotFoundError: no complete case lies there.
        DataError: its files do not belong together.
    """
    if not is_whole(directory):
        raise NotFoundError(f"{directory}: no {ABOUT} of version {VERSION}, so no complete case; make it first")
    about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
    parts = sorted((directory / "gallery").glob("part-*.parquet"))
    gallery = pa.concat_tables([pq.read_table(path) for path in parts])
    new, pairs = pq.read_table(directory / "new.parquet"), pq.read_table(directory / "pairs.parquet")
    if not gallery["id"].equals(new["id"]) or len(new) != about["num_rows"]:
        raise DataError(f"{directory}: gallery and new.parquet hold other ids than case.json says; make the case again")
    has_queries = (directory / "queries.parquet").is_file()
    return CaseData(
        name=about["name"],
        task=CaseTask(about["task"]),
        old_NO=_vectors(gallery, "embedding"),
        new_NW=_vectors(new, "embedding"),
        side_NS=_vectors(gallery, "side_info") if "side_info" in gallery.column_names else None,
        labels_N=_integers(gallery, "label"),
        pair_ids_P=pairs["id"].to_numpy(),
        queries=_read_queries(pq.read_table(directory / "queries.parquet")) if has_queries else None,
        encoders=about["encoders"],
        known=about["known"],
        sources=about["sources"],
    )


def _write_views(directory: Path, ids_N: IdArray, views_N: Sequence[str]) -> None:
    directory.mkdir()
    rows = [row for row, text in enumerate(views_N) if text]
    table = pa.table({"id": ids_N[rows], "text": pa.array([views_N[row] for row in rows], pa.string())})
    pq.write_table(table, directory / "part-00000.parquet")


def _queries_table(queries: Queries) -> pa.Table:
    vectors = {"old": queries.old_QO, "new": queries.new_QW, "side": queries.side_QS}
    columns: dict[str, Any] = {"query": pa.array(np.arange(len(queries.relevant), dtype=np.int64))}
    columns |= {name: vector_array(values, "float32") for name, values in vectors.items() if values is not None}
    if queries.labels_Q is not None:
        columns["label"] = pa.array(queries.labels_Q, pa.int64())
    columns["relevant"] = pa.array([list(ids) for ids in queries.relevant], pa.list_(pa.int64()))
    return pa.table(columns)


def _read_queries(table: pa.Table) -> Queries:
    return Queries(
        old_QO=_vectors(table, "old"),
        new_QW=_vectors(table, "new"),
        side_QS=_vectors(table, "side") if "side" in table.column_names else None,
        labels_Q=_integers(table, "label"),
        relevant=tuple(tuple(ids) for ids in table["relevant"].to_pylist()),
    )


def _vectors(table: pa.Table, name: str) -> FloatArray:
    return vectors_of(table, name, name, None, (pa.float32(),))


def _integers(table: pa.Table, name: str) -> IdArray | None:
    return np.asarray(table[name].to_numpy(), np.int64) if name in table.column_names else None


def _write(path: Path, table: pa.Table) -> None:
    path.write_bytes(shards.encode_table(table))
