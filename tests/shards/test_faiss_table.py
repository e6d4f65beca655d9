"""FAISS files that other programs wrote: what keeps its vectors comes back whole, the rest is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import pytest
from faiss.contrib.ondisk import merge_ondisk

from fct_ray.errors import FormatError, SettingsError, SourceError
from fct_ray.kinds import VectorMetric
from fct_ray.shards.foreign_tables import open_table

NUM, DIM = 400, 8
VECTORS = np.random.default_rng(3).normal(size=(NUM, DIM)).astype(np.float32)
OWN_IDS = np.arange(NUM, dtype=np.int64)[::-1] * 7 + 1_000_000


def built(factory: str, metric: int = faiss.METRIC_L2, ids: Any = None) -> Any:
    """An index of all vectors."""
    faiss.omp_set_num_threads(1)
    index: Any = faiss.index_factory(DIM, factory, metric)
    if isinstance(index, faiss.IndexPQ):
        index.do_polysemous_training = False  # type: ignore[attr-defined]  # takes seconds
    index.train(VECTORS)
    index.add(VECTORS) if ids is None else index.add_with_ids(VECTORS, ids)
    return index


@pytest.mark.parametrize(
    ("factory", "has_ids"),
    [
        ("Flat", False), ("IDMap,Flat", True), ("IDMap2,Flat", True), ("HNSW8", False), ("IDMap,HNSW8", True),
        ("NSG8", False), ("IVF6,Flat", False), ("IVF6,Flat", True), ("IDMap,IVF6,Flat", True), ("IVF6_HNSW4,Flat", True),
        ("SQ8,RFlat", False), ("IDMap2,SQ8,RFlat", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
def test_every_row_comes_back_once_with_its_id(factory: str, has_ids: bool, metric: int, tmp_path: Path) -> None:
    file = tmp_path / "a.faiss"
    faiss.write_index(built(factory, metric, OWN_IDS if has_ids else None), str(file))
    table = open_table(f"faiss:{file}")
    assert table.metric is (VectorMetric.L2 if metric == faiss.METRIC_L2 else VectorMetric.IP)
    parts = table.parts(64)
    there = pickle.loads(pickle.dumps(table))  # noqa: S301 (ours: workers get it so)
    read = [there.read(part) for part in parts]
    assert [one.num_rows for one in read] == [part.rows for part in parts] == [64, 64, 64, 64, 64, 64, 16]
    ids = np.concatenate([one["id"].to_numpy() for one in read])
    vectors = np.concatenate([np.stack(one["embedding"].to_numpy(zero_copy_only=False)) for one in read])
    assert sorted(ids) == sorted(OWN_IDS) if has_ids else sorted(ids) == list(range(NUM))
    row_of = {int(one): row for row, one in enumerate(OWN_IDS)} if has_ids else dict(enumerate(range(NUM)))
    np.testing.assert_array_equal(vectors, VECTORS[[row_of[int(one)] for one in ids]])
    assert table.head(5).equals(read[0].slice(0, 5))


def test_lists_in_a_file_of_their_own_are_read_from_there(tmp_path: Path) -> None:
    empty, full = faiss.index_factory(DIM, "IVF6,Flat"), built("IVF6,Flat", ids=OWN_IDS)
    faiss.write_index(full, str(tmp_path / "part.faiss"))
    empty = faiss.clone_index(full)
    empty.reset()
    merge_ondisk(empty, [str(tmp_path / "part.faiss")], str(tmp_path / "lists.ivfdata"))
    faiss.write_index(empty, str(tmp_path / "a.faiss"))
    table = open_table(f"faiss:{tmp_path / 'a.faiss'}")
    (part,) = table.parts(1_000)
    assert sorted(table.read(part)["id"].to_pylist()) == sorted(OWN_IDS)
    assert "lists.ivfdata" in table.mark


def _binary(path: str) -> None:
    index = faiss.IndexBinaryFlat(64)
    index.add(np.zeros((3, 8), np.uint8))
    faiss.write_index_binary(index, path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: faiss.write_index(built("PQ4x4"), path),
            "type PQ: it keeps codes.*Wanted: Flat, IVF,Flat or HNSW",
        ),
        (lambda path: faiss.write_index(built("IVF6,PQ4x4"), path), "type IVFPQ: it keeps codes"),
        (lambda path: faiss.write_index(built("SQ8"), path), "type ScalarQuantizer: it keeps codes"),
        (lambda path: faiss.write_index(built("HNSW8,SQ8"), path), "type HNSWSQ: it keeps codes"),
        (lambda path: faiss.write_index(built("PCA4,Flat"), path), "type PreTransform: it keeps vectors after"),
        (lambda path: faiss.write_index(built("Flat", faiss.METRIC_L1), path), "metric 2; wanted inner product"),
        (_binary, "binary codes hold bits"),
        (lambda path: Path(path).write_bytes(b"no index at all"), "cannot be read as a FAISS index"),
        (lambda path: Path(path).write_bytes(b""), "cannot be read as a FAISS index"),
    ],
)
def test_what_keeps_no_vectors_is_refused_with_the_reason(
    write: Callable[[str], None], said: str, tmp_path: Path
) -> None:
    write(str(tmp_path / "a.faiss"))
    with pytest.raises(FormatError, match=said):
        open_table(f"faiss:{tmp_path / 'a.faiss'}")


def test_a_file_that_is_not_there_or_not_on_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        open_table(f"faiss:{tmp_path}/none.faiss")
    with pytest.raises(SettingsError, match="want faiss:FILE, a file on a disk"):
        open_table("faiss:s3://bucket/a.faiss")


def test_a_part_costs_memory_for_its_rows_and_not_for_the_file(tmp_path: Path) -> None:
    rows, dimension = 60_000, 256  # 61 MB
    index = faiss.IndexFlatL2(dimension)
    index.add(np.ones((rows, dimension), np.float32))
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    del index
    table = open_table(f"faiss:{tmp_path / 'a.faiss'}")
    parts = table.parts(1_000)
    before = psutil.Process().memory_full_info().uss
    assert table.read(parts[7]).num_rows == 1_000
    assert psutil.Process().memory_full_info().uss - before < 12_000_000
