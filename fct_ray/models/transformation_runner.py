"""Running h over arrays: host memory in, host memory out, in batches of a fixed size.

Owns: device, precision, batches, GPU time and FLOPs of the transformation. A fixed batch size, precision and thread count
make the arithmetic repeat bit for bit on one CPU type.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from fct_ray.kinds import Precision
from fct_ray.models.flops import transformation_flops
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.transformation import AnyTransformation, export
from fct_ray.values import Usage

FloatArray = npt.NDArray[np.float32]
DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}
BATCHES_AT_ONCE = 3  # one on its way in, one computed, one on its way out


def fast_precision(*, on_gpu: bool) -> Precision:
    """bfloat16 where it is multiplied faster than float32 (on GPUs; on CPUs like this one with AMX or AVX-512 BF16)."""
    features = torch.cpu.get_capabilities()
    faster = on_gpu or features.get("amx_bf16") or features.get("avx512_bf16")
    return Precision.BFLOAT16 if faster else Precision.FLOAT32


class TransformRunner:
    """h ready to run: BatchNorm folded, on the GPU if there is one."""

    def __init__(self, model: LoadedModel, *, batch_rows: int, precision: Precision = Precision.FLOAT32) -> None:
        """`batch_rows` rows are transformed at a time."""
        transformation = model.transformation()
        self.flops_per_row = transformation_flops(transformation.architecture)
        self.uses_side = transformation.architecture.side_dimension > 0
        self.dimension: int = model.document.dimension
        module, dtype = export(transformation, DTYPES[precision]), DTYPES[precision]
        self.batches: _SequentialBatches | OverlappedBatches
        if torch.cuda.is_available():
            self.batches = OverlappedBatches(module, dtype, batch_rows, torch.device("cuda"))
        else:
            self.batches = _SequentialBatches(module, dtype, batch_rows)

    def run(self, old_ND: FloatArray, side_NS: FloatArray | None) -> tuple[FloatArray, Usage]:
        """H of every row, float32 [N, W], and the FLOPs and GPU seconds it took."""
        out_NW = np.empty((len(old_ND), self.dimension), dtype=np.float32)
        inputs = [old_ND] if side_NS is None or not self.uses_side else [old_ND, side_NS]
        start_s = time.perf_counter()
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
            self.batches.run(inputs, out_NW)
        busy_gpu_s = time.perf_counter() - start_s if isinstance(self.batches, OverlappedBatches) else 0.0
        return out_NW, Usage(flops=self.flops_per_row * len(old_ND), busy_gpu_s=busy_gpu_s)


class _SequentialBatches:
    """One batch after another, in this thread."""

    def __init__(self, module: AnyTransformation, dtype: torch.dtype, batch_rows: int) -> None:
        self.module, self.dtype, self.batch_rows = module, dtype, batch_rows

    def run(self, inputs: Sequence[FloatArray], out_NW: FloatArray) -> None:
        for start in range(0, len(out_NW), self.batch_rows):
            rows = slice(start, start + self.batch_rows)
            out_NW[rows] = self.module(*(torch.from_numpy(array[rows]).to(self.dtype) for array in inputs)).numpy()


class OverlappedBatches:
    """For a GPU: while one batch is computed, the next is on its way in and the one before on its way out.

    Runs on a CPU, too, one step after the other: there it shows only that every row comes out where it belongs.
    """

    def __init__(self, module: AnyTransformation, dtype: torch.dtype, batch_rows: int, device: torch.device) -> None:
        """`module` computes in `dtype` on `device`, `batch_rows` rows at a time; it is moved there."""
        self.batch_rows = batch_rows
        module = module.to(device)
        self.streams = [_DeviceStream(module, dtype, batch_rows, device) for _ in range(BATCHES_AT_ONCE)]
        torch.get_device_module(device).synchronize()  # the weights are there before other streams read them

    def run(self, inputs: Sequence[FloatArray], out_NW: FloatArray) -> None:
        """Fill `out_NW` (float32 [N, W]) with h of the rows of all `inputs` (float32 [N, D], perhaps [N, S])."""
        for number, start in enumerate(range(0, len(out_NW), self.batch_rows)):
            rows = slice(start, start + self.batch_rows)
            stream = self.streams[number % BATCHES_AT_ONCE]
            stream.finish()
            stream.start([torch.from_numpy(array[rows]) for array in inputs], torch.from_numpy(out_NW[rows]))
        for stream in self.streams:
            stream.finish()


class _DeviceStream:
    """A stream of the device with pinned host memory for one batch: copies in and out overlap what other streams do."""

    def __init__(self, module: AnyTransformation, dtype: torch.dtype, batch_rows: int, device: torch.device) -> None:
        self.module, self.dtype, self.batch_rows, self.device = module, dtype, batch_rows, device
        self.device_module = torch.get_device_module(device)
        self.stream, self.ended = self.device_module.Stream(), self.device_module.Event()
        self.pinned: list[torch.Tensor] = []
        self.out: torch.Tensor | None = None

    def start(self, inputs: Sequence[torch.Tensor], out: torch.Tensor) -> None:
        """Send a batch on its way; `out` is filled by `finish`."""
        rows, self.out = len(out), out
        if not self.pinned:
            pin, widths = self.device.type != "cpu", [tensor.shape[1] for tensor in (*inputs, out)]
            self.pinned = [torch.empty((self.batch_rows, width), pin_memory=pin) for width in widths]
        *pinned_in, pinned_out = self.pinned
        with self.device_module.stream(self.stream):
            on_device = []
            for pinned, tensor in zip(pinned_in, inputs, strict=True):
                pinned[:rows].copy_(tensor)
                on_device.append(pinned[:rows].to(self.device, non_blocking=True).to(self.dtype))
            pinned_out[:rows].copy_(self.module(*on_device), non_blocking=True)
            self.ended.record()

    def finish(self) -> None:
        """Wait for the batch under way, if any, and put its result where it belongs."""
        if self.out is not None:
            self.ended.synchronize()
            self.out.copy_(self.pinned[-1][: len(self.out)])
            self.out = None
