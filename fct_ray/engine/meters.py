"""Counting work where it happens: CPU seconds of a process, wall time of a stage, node-seconds of a cluster.

Owns: reading clocks and process counters into `Usage`. Decides nothing. CPU time is that of the whole process, all
threads; GPU time is the time between CUDA events around our own kernels; children of the process are not counted.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fct_ray.values import Usage


class ProcessMeter:
    """CPU seconds of this process since the last reading; the first reading includes start-up (imports)."""

    def __init__(self, *, include_startup: bool = False) -> None:
        self._last_cpu_s = 0.0 if include_startup else time.process_time()

    def read(self) -> Usage:
        """Usage since the last call: `busy_cpu_s` only."""
        now = time.process_time()
        busy, self._last_cpu_s = now - self._last_cpu_s, now
        return Usage(busy_cpu_s=busy)


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far, from the kernel's own account."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(slots=True)
class StageMeter:
    """What one stage used: the driver's own work plus whatever its workers reported through `add`."""

    worker_usage: Usage = field(default_factory=Usage)
    measured: Usage = field(default_factory=Usage)

    def add(self, usage: Usage) -> None:
        """Account work that another process measured; its wall and node time are the stage's, not added."""
        self.worker_usage = self.worker_usage + usage.replace(wall_s=0.0, node_s=0.0)


@contextmanager
def measure_stage(num_nodes: int = 1) -> Iterator[StageMeter]:
    """Measure wall time, the driver's CPU time and node-seconds held; `.measured` is filled at the end."""
    meter, process, start_s = StageMeter(), ProcessMeter(), time.monotonic()
    try:
        yield meter
    finally:
        wall_s = time.monotonic() - start_s
        meter.measured = process.read() + meter.worker_usage + Usage(wall_s=wall_s, node_s=wall_s * num_nodes)
