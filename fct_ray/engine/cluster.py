"""Connecting to Ray: a running cluster where there is one, otherwise a local one of this machine's cores.

Owns: `ray.init` and what must be set before it. Knows nothing of what runs there.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from fct_ray.settings import CheckedSettings, Count

STREAM_ENDS_WITHIN_S = 30.0
LOCAL_OBJECT_STORE_BYTES = 1 << 30  # shards never pass through the object store, only receipts and pairs do


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(CheckedSettings):
    """Where the work runs."""

    address: str | None = None
    """Ray address ("auto", "host:port"). None: $RAY_ADDRESS if set (as in a submitted job), else a local cluster."""
    num_cpus: Count | None = None
    """Logical CPUs of a local cluster. None: all of this machine."""
    verbose: bool = False
    """Show what workers log, and keep a local cluster's log files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSize:
    """What the cluster has now."""

    num_nodes: int
    num_cpus: int
    num_gpus: int


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[ClusterSize]:
    """A Ray cluster for the time of the block; an already connected process is left connected."""
    if ray.is_initialized():
        yield cluster_size()
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2", "1")
    os.environ.setdefault("FCT_RAY_DATA", str(Path(".data").absolute()))  # workers have other working directories
    level = logging.INFO if settings.verbose else logging.ERROR
    address = settings.address or os.environ.get("RAY_ADDRESS")
    own_directory = None
    if address:
        ray.init(address=address, logging_level=level, log_to_driver=settings.verbose)
    else:
        own_directory = tempfile.mkdtemp(prefix="fct-ray-", dir="/tmp")  # short: Ray puts socket paths below it
        ray.init(
            num_cpus=settings.num_cpus,
            include_dashboard=False,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            logging_level=level,
            log_to_driver=settings.verbose,
            _temp_dir=own_directory,
        )
    if not settings.verbose:
        for name in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield cluster_size()
    finally:
        _wait_for_ray_data()
        ray.shutdown()
        if own_directory is not None and not settings.verbose:
            shutil.rmtree(own_directory, ignore_errors=True)


def _wait_for_ray_data() -> None:
    """Let Ray Data's threads that schedule and fetch end first.

    Ray Data waits 2 s for them when a stream is given up. On a busy machine they may live longer, and a thread that asks
    Ray something after its shutdown ends the whole process with exit code 1, before our error could be said.
    """
    end_s = time.monotonic() + STREAM_ENDS_WITHIN_S
    for thread in threading.enumerate():
        if thread.name.startswith(("StreamingExecutor", "iter_threaded")):
            thread.join(max(0.0, end_s - time.monotonic()))


def is_connected() -> bool:
    """Whether this process is connected to a cluster."""
    return bool(ray.is_initialized())


def cluster_size() -> ClusterSize:
    """Nodes, CPUs and GPUs that are alive in the connected cluster."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return ClusterSize(
        num_nodes=len(nodes), num_cpus=int(resources.get("CPU", 1)), num_gpus=int(resources.get("GPU", 0))
    )


def count_nodes() -> int:
    """Nodes that are alive now; 1 where this process is not connected."""
    return cluster_size().num_nodes if ray.is_initialized() else 1
