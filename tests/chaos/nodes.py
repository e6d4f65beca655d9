"""The Ray cluster that the episodes share: a head without CPUs, where drivers connect, and nodes that are lost and replaced.

Owns: starting it, losing a node, which processes are its workers. A lost node is noticed after about 2 s instead of Ray's
default of about 20, so that an hour holds more kills.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NUM_NODES = 2
STORE_BYTES = 100 << 20
NOTICED_SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
NOT_OURS = re.compile(r"^ray::(DashboardAgent|RuntimeEnvAgent)")  # parts of the raylet
BUSY_ACTOR = re.compile(r"^ray::(MapWorker|RayTrainWorker|TrainController)")
TASK = re.compile(r"^ray::_?[a-z]")


class Nodes:
    """The cluster's nodes; a node that is lost is replaced by a new one."""

    def __init__(self, cluster: Any) -> None:
        self._cluster, self._nodes = cluster, [_add(cluster) for _ in range(NUM_NODES)]

    @property
    def address(self) -> str:
        """What drivers have as RAY_ADDRESS."""
        return str(self._cluster.address)

    def __len__(self) -> int:
        return len(self._nodes)

    def lose(self, position: int) -> str:
        """SIGKILL everything of one node; returns its id."""
        node = self._nodes.pop(position)
        self._cluster.remove_node(node, allow_graceful=False)
        return str(node.node_id)[:12]

    def replace(self) -> None:
        """Add nodes until there are as many as there were."""
        while len(self._nodes) < NUM_NODES:
            self._nodes.append(_add(self._cluster))

    def raylets(self) -> list[int]:
        """Process ids of all raylets, the head's first."""
        nodes = [self._cluster.head_node, *self._nodes]
        return [node.all_processes["raylet"][0].process.pid for node in nodes]


def _add(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


@contextmanager
def cluster_of_nodes() -> Iterator[Nodes]:
    """A cluster of our own, in a directory of its own: other Rays on this machine are not touched."""
    directory, before = tempfile.mkdtemp(prefix="chaos-", dir="/tmp"), os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = directory  # short, for Ray puts socket paths below it
    cluster: Any = None
    try:
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICED_SOON}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield Nodes(cluster)
    finally:
        if cluster is not None:
            cluster.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(directory, ignore_errors=True)


def workers_below(roots: list[int]) -> list[tuple[psutil.Process, str]]:
    """Ray's worker processes below these processes, with their titles, e.g. "ray::MapWorker(...)"; by title."""
    found = []
    for root in roots:
        for process, title in _titled(root):
            if title.startswith("ray::") and not NOT_OURS.match(title):
                found.append((process, title))
    return sorted(found, key=lambda pair: (pair[1], pair[0].pid))


def busy_actors(found: list[tuple[psutil.Process, str]]) -> list[tuple[psutil.Process, str]]:
    """Those that transform shards, fit, or direct a fit, by their titles."""
    return [pair for pair in found if BUSY_ACTOR.match(pair[1])]


def other_workers(found: list[tuple[psutil.Process, str]]) -> list[tuple[psutil.Process, str]]:
    """Those that run tasks; if there are none, all that are no busy actors."""
    tasks = [pair for pair in found if TASK.match(pair[1])]
    return tasks or [pair for pair in found if not BUSY_ACTOR.match(pair[1])]


def _titled(root: int) -> Iterator[tuple[psutil.Process, str]]:
    try:
        below = psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in below:
        try:
            yield process, (process.cmdline() or [""])[0].strip()
        except psutil.NoSuchProcess:
            continue
