"""The closed-form encoders of `fashion_vectors` as a user would bring them: `tests.jobs.fashion_encoders:old`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fct_ray.kinds import Metric
from tests.fashion_vectors import encoders

FloatArray = npt.NDArray[np.float32]


class PixelEncoder:
    """Photos to unit vectors."""

    metric = Metric.IP
    normalized = True
    flops_per_item = 1e6

    def __init__(self, name: str, dimension: int, embed: Callable[[FloatArray], FloatArray]) -> None:
        self.name, self.fingerprint, self.dimension, self._embed = name, f"fashion-{name}", dimension, embed

    def encode(self, columns: Mapping[str, Any]) -> FloatArray:
        images = np.asarray(columns["image"])[..., 0]  # grey, also where a photo was stored as RGB
        return self._embed(np.asarray(images.reshape(len(images), -1) / 255.0, dtype=np.float32))


@lru_cache(maxsize=3)
def _encoder(name: str) -> PixelEncoder:
    dimensions = {"old": 6, "side": 24, "new": 48}
    return PixelEncoder(name, dimensions[name], encoders()[name])


def old() -> PixelEncoder:
    return _encoder("old")


def side() -> PixelEncoder:
    return _encoder("side")


def new() -> PixelEncoder:
    return _encoder("new")
