"""The reference h as any contender would prepare it: BatchNorm folded, no gradients, on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from fct_ray.models.transformation import export
from fct_ray.shards.model_directory import load_model

FloatArray = npt.NDArray[np.float32]


def open_h(uri: str, *, threads: int, batch_rows: int) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """A function from float32 [N, old] and [N, side] to float32 [N, new]."""
    torch.set_num_threads(threads)
    module = export(load_model(uri).transformation())

    def transform(old_NO: FloatArray, side_NS: FloatArray) -> FloatArray:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(old_NO), batch_rows):
                rows = slice(start, start + batch_rows)
                parts.append(module(torch.from_numpy(old_NO[rows]), torch.from_numpy(side_NS[rows])).numpy())
        return np.concatenate(parts)

    return transform
