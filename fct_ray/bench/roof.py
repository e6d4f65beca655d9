"""The roof of a machine for one h: the larger of FLOPs over the matrix rate and bytes over the storage rate.

Owns: measuring both rates, in the same run as the pipelines. Rows a second cannot be above the roof.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fct_ray.models.matrix_rate import matrix_rate

MATRIX_SIZE, MATRIX_S = 2048, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """What the machine can do, measured, and what that means for one row."""

    flops_per_s: float
    """Float32 matrix products, all threads."""
    storage_bytes_per_s: float
    """Written, flushed to the disk, and read back: bytes both ways over the time of both."""
    rows_per_s: float
    bound: str
    """"compute" or "storage"."""


def measure_roof(
    directory: str, *, threads: int, flops_per_row: float, bytes_per_row: float, storage_bytes: int
) -> Roof:
    """Measure the matrix rate on `threads` threads and, with a file of `storage_bytes`, the storage rate of `directory`."""
    flops_per_s, storage = (
        matrix_rate(threads=threads, size=MATRIX_SIZE, seconds=MATRIX_S),
        storage_rate(Path(directory), storage_bytes),
    )
    seconds = {"compute": flops_per_row / flops_per_s, "storage": bytes_per_row / storage}
    bound = max(seconds, key=lambda name: seconds[name])
    return Roof(flops_per_s=flops_per_s, storage_bytes_per_s=storage, rows_per_s=1 / seconds[bound], bound=bound)


def storage_rate(directory: Path, size: int) -> float:
    """Bytes a second, both ways, of one large file: written and flushed, then read (from the page cache, as shards are)."""
    path, block = directory / "storage-rate.tmp", os.urandom(1 << 24)
    start_s = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    taken_s = time.perf_counter() - start_s
    path.unlink()
    return 2 * size / taken_s
