"""Fashion-MNIST by pairs of small real models with equal numbers of dimensions; nothing is fitted for longer than a minute.

    networks   two convolutional networks of different width, seed and classes (all ten, the first five), last hidden layer
    linear     principal components of pixels, and of the differences between neighbouring pixels

Owns: fitting and keeping them (`bench/photo-models` in the data directory). Array legend: N photos, D numbers of a vector.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.registry import open_source

FloatArray = npt.NDArray[np.float32]
NUM_PHOTOS, NUM_FIT, DIMENSION = 20_000, 12_000, 64
STEPS, BATCH = 300, 128


@cache
def network_vectors() -> tuple[FloatArray, FloatArray]:
    """Gallery photos by both networks, each [N, DIMENSION]."""
    path = data_directory() / "bench" / "photo-models" / "networks-1.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        first, second = _network(seed=1, width=16, classes=10), _network(seed=2, width=8, classes=5)
        np.savez(partial, first=first, second=second)
        partial.replace(path)
    with np.load(path) as stored:
        return stored["first"], stored["second"]


@cache
def linear_vectors() -> tuple[FloatArray, FloatArray]:
    """Gallery photos by both linear encoders, each [N, 24], of length 1."""
    fit_NP, photos_NP = _photos("fit", NUM_FIT)[0], _photos("gallery", NUM_PHOTOS)[0]
    square, fitted = photos_NP.reshape(-1, 28, 28), fit_NP.reshape(-1, 28, 28)
    pixels = _principal(fit_NP, photos_NP)
    return pixels, _principal(*(np.diff(part, axis=2).reshape(len(part), -1) for part in (fitted, square)))


def _principal(fit_NP: FloatArray, photos_NP: FloatArray) -> FloatArray:
    mean = fit_NP.mean(axis=0)
    axes = np.linalg.eigh(np.cov((fit_NP - mean).T))[1][:, ::-1][:, :24]
    vectors = (photos_NP - mean) @ axes
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _photos(split: str, most: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Pixels [N, 784] between 0 and 1, and classes [N]."""
    source = open_source(f"fashion-mnist:{split}")
    assert source.labels_N is not None  # noqa: S101 (Fashion-MNIST has labels)
    num = min(most, len(source.ids_N))
    pixels = np.asarray(source.read(np.arange(num)).columns["image"], np.float32).reshape(num, -1) / np.float32(255)
    return pixels, source.labels_N[:num]


def _network(*, seed: int, width: int, classes: int) -> FloatArray:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(32 * width, DIMENSION),
    )  # fmt: skip
    head = nn.Linear(DIMENSION, classes)
    pixels_NP, labels_N = _photos("fit", NUM_FIT)
    known = labels_N < classes
    images = torch.from_numpy(pixels_NP[known]).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(labels_N[known])
    optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], 3e-3)
    order = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,), generator=order)
        loss = nn.functional.cross_entropy(head(body(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    body.eval()
    gallery = torch.from_numpy(_photos("gallery", NUM_PHOTOS)[0]).reshape(-1, 1, 28, 28)
    with torch.inference_mode():
        return np.concatenate([body(part).numpy() for part in torch.split(gallery, 1_000)])
