"""Running h over arrays: host memory in, host memory out, in batches of a fixed size.

Owns: device, batches, GPU time and FLOPs of the transformation. A fixed batch size and thread count make the
arithmetic repeat bit for bit on one CPU type.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from fct_ray.models.files import LoadedModel
from fct_ray.models.flops import transformation_flops
from fct_ray.models.transformation import export
from fct_ray.values import Usage

FloatArray = npt.NDArray[np.float32]


class TransformRunner:
    """h ready to run: BatchNorm folded, on the GPU if there is one."""

    def __init__(self, model: LoadedModel, *, batch_rows: int) -> None:
        """`batch_rows` rows are transformed at a time."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_rows = batch_rows
        transformation = model.transformation()
        self.flops_per_row = transformation_flops(transformation.architecture)
        self.uses_side = transformation.architecture.side_dimension > 0
        self.dimension: int = model.document.dimension
        self.module = export(transformation).to(self.device)

    def run(self, old_ND: FloatArray, side_NS: FloatArray | None) -> tuple[FloatArray, Usage]:
        """H of every row, float32 [N, W], and the FLOPs and GPU seconds it took."""
        out_NW = np.empty((len(old_ND), self.dimension), dtype=np.float32)
        start_s = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(old_ND), self.batch_rows):
                rows = slice(start, start + self.batch_rows)
                old = torch.from_numpy(old_ND[rows]).to(self.device)
                side = (
                    torch.from_numpy(side_NS[rows]).to(self.device) if self.uses_side and side_NS is not None else None
                )
                out_NW[rows] = self.module(old, side).cpu().numpy()
        busy_gpu_s = time.perf_counter() - start_s if self.device == "cuda" else 0.0
        return out_NW, Usage(flops=self.flops_per_row * len(old_ND), busy_gpu_s=busy_gpu_s)
