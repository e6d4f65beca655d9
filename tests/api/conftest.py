"""A small gallery of real photos' embeddings as files of another system, and an h for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import fct_ray
from fct_ray.engine.cluster import ClusterSize
from fct_ray.storage.store import Store as StoreFiles
from tests.fashion_vectors import Vectors, fashion_vectors, write_gallery
from tests.galleries import linear_h

NUM_PAIRS = 400


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A store with version 1, and what upgrades it."""

    store: fct_ray.Store
    vectors: Vectors
    """Of 1,000 photos; the store has the first 900."""
    pairs: tuple[np.ndarray, np.ndarray]
    h: str
    directory: Path


@pytest.fixture
def gallery(tmp_path: Path, cluster: ClusterSize) -> Gallery:
    """900 photos in 2 files, adopted; pairs in memory; a linear h."""
    vectors = fashion_vectors(1000)
    write_gallery(tmp_path / "vectors", first_rows(vectors, 900), 2)
    store = fct_ray.adopt(tmp_path / "store", embeddings=tmp_path / "vectors", encoder="api-v1", metric="ip")
    rows = np.random.default_rng(0).permutation(900)[:NUM_PAIRS]
    return Gallery(
        store=store,
        vectors=vectors,
        pairs=(vectors.ids_N[rows], vectors.new_NW[rows]),
        h=linear_h(StoreFiles(store.uri), vectors, "api-v2", tmp_path / "models"),
        directory=tmp_path,
    )


def first_rows(vectors: Vectors, count: int) -> Vectors:
    """The first items of all arrays."""
    return Vectors(
        ids_N=vectors.ids_N[:count],
        labels_N=vectors.labels_N[:count],
        old_ND=vectors.old_ND[:count],
        side_NS=vectors.side_NS[:count],
        new_NW=vectors.new_NW[:count],
    )
