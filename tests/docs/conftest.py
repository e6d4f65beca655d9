"""What the examples of the documentation find in their working directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.sources.registry import open_source
from tests.fashion_vectors import Vectors, fashion_vectors, fixed_size_list, write_gallery, write_pairs

GALLERY, PAIRS, QUERIES, PHOTOS = 3000, 600, 20, 60


@pytest.fixture
def example_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of this test: `vectors/`, `pairs.parquet`, `queries.parquet`, `photos/`; see docs/api.md."""
    monkeypatch.chdir(tmp_path)
    vectors = fashion_vectors(GALLERY + QUERIES)
    gallery = _rows(vectors, slice(0, GALLERY))
    write_gallery(tmp_path / "vectors", gallery, 3)
    write_pairs(tmp_path / "pairs.parquet", gallery, PAIRS)
    queries = _rows(vectors, slice(GALLERY, None))
    pq.write_table(
        pa.table({"id": queries.ids_N, "embedding": fixed_size_list(queries.new_NW)}), tmp_path / "queries.parquet"
    )
    source = open_source("fashion-mnist:gallery")
    assert source.labels_N is not None
    images = source.read(np.arange(PHOTOS)).columns["image"]
    for position in range(PHOTOS):
        directory = tmp_path / "photos" / str(source.labels_N[position])
        directory.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(images[position]).squeeze()).convert("RGB").save(directory / f"{position}.png")
    return tmp_path


def _rows(vectors: Vectors, rows: slice) -> Vectors:
    return Vectors(
        ids_N=vectors.ids_N[rows],
        labels_N=vectors.labels_N[rows],
        old_ND=vectors.old_ND[rows],
        side_NS=vectors.side_NS[rows],
        new_NW=vectors.new_NW[rows],
    )
