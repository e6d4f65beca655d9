"""How fast this machine is, measured in a third of a second: what forecasts are reckoned with.

Owns: the matrix rate. The other rates are constants of `plan/forecast`. Workers are taken to be like the driver's machine;
where they have GPUs, or more cores, the forecast is too high.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import lru_cache

import torch

from fct_ray.plan.forecast import CPU_2_CORES, Rates

SIZE, MEASURED_S = 1024, 0.3


@lru_cache(maxsize=1)
def measured_rates() -> Rates:
    """The rates of a node like this one: float32 matrix products measured now, the rest as in `CPU_2_CORES`."""
    cores = os.cpu_count() or 1
    return replace(
        CPU_2_CORES,
        flops_per_s=matrix_rate(threads=torch.get_num_threads(), size=SIZE, seconds=MEASURED_S),
        provenance=f"float32 matrix products on this machine ({cores} cores), storage and start of {CPU_2_CORES.provenance}",
    )


def matrix_rate(
    *, threads: int, size: int, seconds: float, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> float:
    """FLOPs a second of square products on so many threads (or a GPU): the best of what fits into `seconds`."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    left, right, out = (torch.rand(size, size, device=device).to(dtype) for _ in range(3))
    best_s, end_s = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        torch.mm(left, right, out=out)
        if device != "cpu":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - start_s)
    torch.set_num_threads(before)
    return float(2 * size**3 / best_s)
