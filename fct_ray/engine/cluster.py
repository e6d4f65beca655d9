"""Connecting to Ray: a running cluster where there is one, otherwise a local one of this machine's cores.

Owns: `ray.init` and what must be set before it. Knows nothing of what runs there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import ray._private.worker

from fct_ray.engine.border import set_before_torch
from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.settings import CheckedSettings, Count

logger = logging.getLogger(__name__)
ANSWERS_WITHIN_S = 10.0
STARTS = 3
STDERR = 2
_HOST_AND_PORT = re.compile(r"(?:ray://)?(?P<host>[^/:]+|\[[^/]+\]):(?P<port>\d+)")
_LATE = ("timed out during startup", "Failed to get the system config", "GCS has become overloaded")
"""How Ray says that a process of a local cluster was not there in time."""
STREAM_ENDS_WITHIN_S = 30.0
ON_ONE_MACHINE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Fits on a local cluster: no process that watches for nodes to be taken away, and no 2 s until an end is seen."""
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
    """A Ray cluster for the time of the block; an already connected process is left connected.

    Raises:
        SettingsError: no cluster answers at the address.
        IncompleteRunError: a local cluster does not come up on this machine.
    """
    if ray.is_initialized():
        yield cluster_size()
        return
    set_before_torch()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2", "1")
    os.environ.setdefault("FCT_RAY_DATA", str(Path(".data").absolute()))  # workers have other working directories
    address = settings.address or os.environ.get("RAY_ADDRESS")
    own_directory = None
    alone = {name: value for name, value in ON_ONE_MACHINE.items() if name not in os.environ}
    if not settings.verbose:
        _quiet()
    if address and address != "local":
        _join(address, settings)
    else:
        os.environ.update(alone)
        own_directory = _start(settings)
    try:
        yield cluster_size()
    finally:
        _wait_for_ray_data()
        ray.shutdown()
        for name in alone:
            os.environ.pop(name, None)
        if own_directory is not None and not settings.verbose:
            shutil.rmtree(own_directory, ignore_errors=True)


def _join(address: str, settings: ClusterSettings) -> None:
    """Connect to a running cluster; an address where nothing listens is refused at once, where Ray tries for minutes."""
    if (place := _HOST_AND_PORT.fullmatch(address)) is not None:
        try:
            socket.create_connection((place["host"].strip("[]"), int(place["port"])), timeout=ANSWERS_WITHIN_S).close()
        except OSError as error:
            raise _no_cluster(address, error) from error
    try:
        with _held_back(settings):
            ray.init(address=address, logging_level=_level(settings), log_to_driver=settings.verbose)
    except (
        ConnectionError,
        ValueError,
        RuntimeError,
    ) as error:  # ValueError: no address; RuntimeError: another version
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> SettingsError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return SettingsError(
        f"no Ray cluster can be joined at {address!r} (--cluster.address or $RAY_ADDRESS): {said[0]}; give the host:port "
        "that `ray start --head` printed, or neither of the two for a local cluster"
    )


def _start(settings: ClusterSettings) -> str:
    """Start a local cluster; returns its own directory. On a busy machine Ray gives up too early, so it is tried again."""
    last: Exception | None = None
    for _ in range(STARTS):
        directory = tempfile.mkdtemp(prefix="fct-ray-", dir="/tmp")  # short: Ray puts socket paths below it
        try:
            with _held_back(settings):
                ray.init(
                    num_cpus=settings.num_cpus,
                    include_dashboard=False,
                    object_store_memory=LOCAL_OBJECT_STORE_BYTES,
                    logging_level=_level(settings),
                    log_to_driver=settings.verbose,
                    _temp_dir=directory,
                )
        except Exception as error:  # what it is depends on which of Ray's processes was late
            if not any(said in str(error) for said in _LATE):
                raise
            logger.info("Ray did not start in time, trying again: %s", error)
            last = error
            _end_processes(directory)
            shutil.rmtree(directory, ignore_errors=True)
        else:
            return directory
    raise IncompleteRunError(
        f"{STARTS} times Ray did not start in time on this machine ({last}); is it very busy? Run the same command again"
    )


def _end_processes(directory: str) -> None:
    """End what a start in this directory left running: Ray does so only when this process ends."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(directory in argument for argument in child.cmdline()):
                child.kill()


@contextmanager
def _held_back(settings: ClusterSettings) -> Iterator[None]:
    """Hold back what is written to the error stream while Ray starts, also by its C++ parts; if it fails, write it."""
    if settings.verbose:
        yield
        return
    shown = os.dup(STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, STDERR)
            os.close(shown)


def _level(settings: ClusterSettings) -> int:
    return logging.INFO if settings.verbose else logging.ERROR


def _quiet() -> None:
    """Log lines that a user cannot act on go to the debug level: what fails is raised, and said once, in our words."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of Ray's C++ parts, which write to this process's stderr
    for name in ("ray", "ray.data", "ray.train", "ray.tune", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray._private.worker.print_to_stdstream = _log_ray_message  # noqa: SLF001 (no setting turns these lines off)


def _log_ray_message(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """Instead of Ray's function that prints to standard output each time a worker process ends."""
    logger.debug("ray (%s): %s", ignore_prefix, data["lines"])


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
