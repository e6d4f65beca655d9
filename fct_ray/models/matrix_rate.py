"""How many floating-point operations a second a machine's matrix products reach."""

from __future__ import annotations

import time

import torch


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
