"""What a run has used so far, kept in the store's `runs/<run id>/`, so that a resumed run reports all of its work.

    runs/<run id>/usage/<stage>-<attempt>.json      one record per attempt at a stage
    runs/<run id>/<name>                            pairs, settings, reports

Owns: those records and their sum. The stream's workers sign receipts in the version's ledger; the stage's own record
holds only the driver's part (wall, node-seconds), so nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fct_ray.engine.cluster import count_nodes
from fct_ray.engine.meters import StageMeter, measure_stage
from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store
from fct_ray.values import Usage

STAGES = ("plan", "pairs", "fit", "gate", "stream", "verify", "publish", "refine")


class RunLog:
    """The usage records of one run."""

    def __init__(self, store: Store, run: str) -> None:
        """Records go below `store.run_uri(run, ...)`."""
        self.store, self.run = store, run

    @contextmanager
    def stage(self, name: str) -> Iterator[StageMeter]:
        """Measure a stage and record it, also when it fails."""
        attempt = len(self._records(name))
        meter = StageMeter()
        try:
            with measure_stage(count_nodes) as meter:
                yield meter
        finally:
            uri = self.store.run_uri(self.run, f"usage/{name}-{attempt:04d}.json")
            objects.write_bytes(uri, documents.dump(meter.measured))

    def used(self) -> dict[str, Usage]:
        """Usage per stage, summed over all attempts; stages in the order in which they run."""
        totals = {}
        for name in STAGES:
            records = self._records(name)
            if records:
                totals[name] = sum((documents.load(Usage, objects.read_bytes(u), u) for u in records), Usage())
        return totals

    def _records(self, name: str) -> list[str]:
        listed = objects.list_uris(self.store.run_uri(self.run, "usage/"))
        return [uri for uri in listed if uri.rsplit("/", 1)[-1].startswith(f"{name}-")]
