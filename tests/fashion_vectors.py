"""Embeddings of real photos (Fashion-MNIST) by closed-form encoders: quick to make, and honest to upgrade.

old    6 principal components of the photos of classes 0 to 4 only: it never saw the other classes
side   24 principal components of the photos' horizontal and vertical differences: knows no classes at all
new    48 linear discriminant and principal components fitted on all ten classes

All are scaled to unit length. Legend: N photos, D dimensions.
"""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.registry import open_source

NUM_FIT = 4000


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """One gallery by three encoders."""

    ids_N: npt.NDArray[np.int64]
    labels_N: npt.NDArray[np.int64]
    old_ND: npt.NDArray[np.float32]
    side_NS: npt.NDArray[np.float32]
    new_NW: npt.NDArray[np.float32]


@lru_cache(maxsize=1)
def encoders() -> dict[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]]:
    """Old, side and new: pixels float32 [N, 784] in 0-1 to unit vectors."""
    maps = _maps()

    def apply(name: str, pixels_N: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return (pixels_N - maps[f"{name}_mean"]) @ maps[f"{name}_matrix"]

    def new(pixels_N: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        projected = apply("new", pixels_N)
        discriminants = projected @ maps["classes_matrix"] - maps["classes_mean"] @ maps["classes_matrix"]
        return _unit(np.hstack([2.0 * discriminants, 0.2 * projected]))

    return {
        "old": lambda pixels_N: _unit(apply("old", pixels_N)),
        "side": lambda pixels_N: _unit(apply("side", _differences(pixels_N))),
        "new": new,
    }


def _maps() -> dict[str, npt.NDArray[np.float64]]:
    """Means and matrices of the encoders, fitted by the first process that asks and kept for all others.

    A job and each of its workers ask; fitting took each of them seconds.
    """
    made_by = f"{version('scikit-learn')} {NUM_FIT} {inspect.getsource(_fit_maps)}"
    path = data_directory() / "tests" / f"fashion-encoders-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(file, **_fit_maps())
        Path(file.name).replace(path)
    with np.load(path) as stored:
        return dict(stored)


def _fit_maps() -> dict[str, Any]:
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fit = open_source("fashion-mnist:fit")
    fit_N, labels = _pixels(fit, NUM_FIT), fit.labels_N
    assert labels is not None
    labels = labels[:NUM_FIT]
    old = PCA(6, random_state=0).fit(fit_N[labels < 5])
    side = PCA(24, random_state=0).fit(_differences(fit_N))
    new = PCA(39, random_state=0).fit(fit_N)
    classes = LinearDiscriminantAnalysis(n_components=9).fit(new.transform(fit_N), labels)
    principal = {"old": old, "side": side, "new": new}
    return {
        **{f"{name}_mean": pca.mean_ for name, pca in principal.items()},
        **{f"{name}_matrix": pca.components_.T for name, pca in principal.items()},
        "classes_mean": classes.xbar_,
        "classes_matrix": classes.scalings_[:, :9],
    }


@lru_cache(maxsize=2)
def fashion_vectors(num_items: int = 6000) -> Vectors:
    """The first items of the gallery split, embedded three ways."""
    gallery = open_source("fashion-mnist:gallery")
    assert gallery.labels_N is not None
    gallery_N = _pixels(gallery, num_items)
    return Vectors(
        ids_N=gallery.ids_N[:num_items],
        labels_N=gallery.labels_N[:num_items],
        old_ND=encoders()["old"](gallery_N),
        side_NS=encoders()["side"](gallery_N),
        new_NW=encoders()["new"](gallery_N),
    )


def write_gallery(directory: Path, vectors: Vectors, num_shards: int) -> Path:
    """Parquet files of (id, embedding, side_info, label), as another system would have written them."""
    directory.mkdir(parents=True, exist_ok=True)
    for shard, rows in enumerate(np.array_split(np.arange(len(vectors.ids_N)), num_shards)):
        table = pa.table(
            {
                "id": vectors.ids_N[rows],
                "embedding": fixed_size_list(vectors.old_ND[rows]),
                "side_info": fixed_size_list(vectors.side_NS[rows]),
                "label": vectors.labels_N[rows],
            }
        )
        pq.write_table(table, directory / f"part-{shard:03d}.parquet")
    return directory


def write_pairs(path: Path, vectors: Vectors, num_pairs: int) -> Path:
    """A Parquet file of (id, embedding) by the new encoder, for a seeded sample of the ids."""
    rows = np.random.default_rng(0).permutation(len(vectors.ids_N))[:num_pairs]
    pq.write_table(pa.table({"id": vectors.ids_N[rows], "embedding": fixed_size_list(vectors.new_NW[rows])}), path)
    return path


def fixed_size_list(matrix_ND: npt.NDArray[np.float32]) -> pa.Array:
    """Rows of a matrix as Arrow fixed_size_list<float32>[D]."""
    flat = np.ascontiguousarray(matrix_ND, dtype=np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(flat, matrix_ND.shape[1])


def _pixels(source: object, count: int) -> npt.NDArray[np.float32]:
    images = source.read(np.arange(count)).columns["image"]  # type: ignore[attr-defined]
    return np.asarray(images, dtype=np.float32).reshape(count, -1) / 255.0


def _differences(pixels_N: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    square = pixels_N.reshape(-1, 28, 28)
    return np.hstack(
        [np.diff(square, axis=1).reshape(len(square), -1), np.diff(square, axis=2).reshape(len(square), -1)]
    )


def _unit(rows_ND: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True), dtype=np.float32)
