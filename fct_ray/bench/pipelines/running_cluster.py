"""A cluster that runs already, for pipelines on Ray: Ray Data's own helper actors have been started by earlier work.

In an upgrade the stages before the stream have started them; a cluster fresh from `ray.init` has not.
"""

from __future__ import annotations

from contextlib import ExitStack

import ray.data

from fct_ray.bench.pipelines import PipelineJob
from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected


def start_cluster(job: PipelineJob) -> tuple[ExitStack, ClusterSize]:
    """A local cluster of the job's cores, and the stack that ends it."""
    cluster = ExitStack()
    size = cluster.enter_context(connected(ClusterSettings(num_cpus=job.threads)))
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1).map_batches(_Nothing, compute=ray.data.ActorPoolStrategy(size=1)).materialize()
    return cluster, size


class _Nothing:
    def __call__(self, batch: object) -> object:
        return batch
