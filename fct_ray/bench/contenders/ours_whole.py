"""Ours, whole: what `jobs/upgrade.py --pairs` does, from starting a local cluster to publishing, with an h of its own."""

from __future__ import annotations

from collections.abc import Callable

from fct_ray.bench import dataset
from fct_ray.bench.contenders import ContenderJob, Done
from fct_ray.bench.contenders.ours import adopt
from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.errors import GateRefusedError
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings


def prepare(job: ContenderJob) -> Callable[[], Done]:
    """Adopt the shards; the upgrade starts its own cluster, as a user's would."""
    cluster = ClusterSettings(num_cpus=job.threads)
    with connected(cluster):
        store = adopt(job)
    settings = UpgradeSettings(
        store=store.uri, encoder=dataset.NEW_NAME, pairs=job.pairs, index=job.index_factory, batch_rows=job.batch_rows
    )

    def run() -> Done:
        plan = plan_upgrade(settings, None, None)
        with connected(cluster) as size:
            outcome = run_upgrade(plan, size)
        if outcome.published is None:
            raise GateRefusedError("the gate refused the benchmark's h: its pairs are not what they should be")
        figures = {f"{name}_s": usage.wall_s for name, usage in outcome.stages.items()}
        return Done(rows=outcome.published.num_rows, embeddings=None, figures=figures)

    return run
