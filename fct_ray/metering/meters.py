"""Counting work where it happens: CPU seconds of a process, wall time of a stage, node-seconds of a cluster.

Owns: reading clocks and process counters into `Usage`. Decides nothing. CPU time is that of the whole process, all
threads; children of the process are not counted. GPU time is measured by `models/`, where GPUs are used.
"""

from __future__ import annotations

import functools
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fct_ray.values import Usage

COUNT_NODES_EVERY_S = 5.0
RECORD_EVERY_S = 15.0
logger = logging.getLogger(__name__)


class ProcessMeter:
    """CPU seconds of this process since the last reading; the first reading counts from `since_cpu_s`."""

    def __init__(self, *, since_cpu_s: float | None = None) -> None:
        """`since_cpu_s` is a process time; None is now."""
        self._last_cpu_s = time.process_time() if since_cpu_s is None else since_cpu_s
        self._lock = threading.Lock()

    def read(self) -> Usage:
        """Usage since the last call, of any thread: `busy_cpu_s` only."""
        with self._lock:
            now = time.process_time()
            busy, self._last_cpu_s = now - self._last_cpu_s, now
        return Usage(busy_cpu_s=busy)


@functools.lru_cache(maxsize=1)
def process_meter() -> ProcessMeter:
    """The one meter of a worker process, from its start (imports are counted).

    All tasks that a process runs read the same meter, one after the other or at once: no CPU second is counted twice,
    also not where Ray gives a process that ran tasks before another task or an actor.
    """
    return ProcessMeter(since_cpu_s=0.0)


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


class NodeClock:
    """Node-seconds held: the number of nodes, read now and then, integrated over time (clusters grow and shrink)."""

    def __init__(self, count_nodes: Callable[[], int], tell: Callable[[float], None] | None = None) -> None:
        """Start counting in a thread of its own; `tell` hears the node-seconds so far every `RECORD_EVERY_S`.

        Where one of the two raises, counting goes on with the last number known, and the log says so once.
        """
        self._count_nodes, self._tell, self._stop = count_nodes, tell, threading.Event()
        self._node_s, self._last_s = 0.0, time.monotonic()
        self._nodes, self._warned = 1, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Node-seconds since the start."""
        self._stop.set()
        self._thread.join()
        return self._node_s

    def _run(self) -> None:
        told_s = self._last_s
        self._try(self._look)
        while not self._stop.wait(COUNT_NODES_EVERY_S):
            self._add()
            if self._tell is not None and self._last_s - told_s >= RECORD_EVERY_S:
                self._try(functools.partial(self._tell, self._node_s))
                told_s = self._last_s
            self._try(self._look)
        self._add()

    def _look(self) -> None:
        self._nodes = max(1, self._count_nodes())

    def _add(self) -> None:
        now_s = time.monotonic()
        self._node_s += self._nodes * (now_s - self._last_s)
        self._last_s = now_s

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the border of the thread: nobody would hear of it, and the count would end
            if not self._warned:
                self._warned = True
                logger.warning(
                    "node-seconds are counted on with %d nodes, the last number known: %s: %s",
                    self._nodes, type(error).__name__, error, exc_info=logger.isEnabledFor(logging.DEBUG),
                )  # fmt: skip


def one_node() -> int:
    """For work that happens on this machine alone."""
    return 1


@contextmanager
def measure_stage(
    count_nodes: Callable[[], int] = one_node, record: Callable[[Usage], None] | None = None
) -> Iterator[StageMeter]:
    """Measure wall time, the driver's CPU time and node-seconds held; `.measured` is filled at the end.

    `record` gets what was held so far every `RECORD_EVERY_S`, from another thread: all that is known if this process is
    killed. Work that is not finished is not in it: it will be done, and counted, once more.
    """
    start_s, start_cpu_s = time.monotonic(), time.process_time()

    def held(node_s: float) -> Usage:
        busy_cpu_s = time.process_time() - start_cpu_s
        return Usage(node_s=node_s, wall_s=time.monotonic() - start_s, busy_cpu_s=busy_cpu_s)

    meter = StageMeter()
    nodes = NodeClock(count_nodes, None if record is None else lambda node_s: record(held(node_s)))
    try:
        yield meter
    finally:
        meter.measured = held(nodes.stop()) + meter.worker_usage
