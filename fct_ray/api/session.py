"""The Ray cluster of a Python session: joined or started with the first call that needs one, kept until the process ends."""

from __future__ import annotations

import atexit
from contextlib import ExitStack

from fct_ray.engine.cluster import ClusterSettings, ClusterSize, cluster_size, connected, is_connected

_session = ExitStack()


def connect(address: str | None = None, *, num_cpus: int | None = None, verbose: bool = False) -> ClusterSize:
    """Join the Ray cluster at `address`, or start one of `num_cpus` cores here; returns its nodes, CPUs and GPUs.

    Nothing happens where this process is connected already. Calling it is optional: whatever needs a cluster calls it with
    the defaults ($RAY_ADDRESS if it is set, else a local cluster of all cores). The cluster is left, and one that was
    started here ends, when the process ends.

    Raises:
        FctRayError: there is no cluster at that address.

    Examples:
        >>> connect(num_cpus=2).num_nodes
        1
    """
    if not is_connected():
        atexit.register(_session.close)
        _session.enter_context(connected(ClusterSettings(address=address, num_cpus=num_cpus, verbose=verbose)))
    return cluster_size()
