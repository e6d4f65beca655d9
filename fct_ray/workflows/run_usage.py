"""What a run has used so far, kept in the store's `runs/<run id>/`, so that a resumed run reports all of its work.

    runs/<run id>/usage/<stage>-<attempt>.json      one record per attempt at a stage, renewed while it lasts
    runs/<run id>/usage/<stage>-<part>.json         work whose outcome is kept, and found again by the next attempt
    runs/<run id>/<name>                            pairs, settings, reports

Owns: those records, and the sum of all that a run used. The stream's workers sign receipts in the ledger; the stage's own
record holds only the driver's part (wall, node-seconds), so nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fct_ray.engine.cluster import count_nodes
from fct_ray.errors import StoreError
from fct_ray.metering.meters import StageMeter, measure_stage
from fct_ray.plan.resume import usage_of
from fct_ray.plan.stages import STAGES
from fct_ray.storage import usage_records
from fct_ray.storage.store import Store
from fct_ray.values import Usage


class RunUsage:
    """The usage records of one run."""

    def __init__(self, store: Store, run: str) -> None:
        """Records go below `store.run_uri(run, ...)`."""
        self.store, self.run = store, run

    @contextmanager
    def stage(self, name: str) -> Iterator[StageMeter]:
        """Measure a stage and record it, also when it fails, or (wall, node and driver's CPU seconds) is killed.

        Raises:
            KeyError: `plan.stages` does not know the stage, so its work would be left out of every sum.
        """
        if name not in STAGES:
            raise KeyError(f"stage {name!r} is not in plan.stages.STAGES; want it there, with how its work grows")
        record, meter = f"{name}-{len(usage_records.uris(self.store, self.run, name)):04d}", StageMeter()

        def record_so_far(usage: Usage) -> None:
            with suppress(StoreError):  # the next one, or the last, may be written
                usage_records.write(self.store, self.run, record, usage)

        try:
            with measure_stage(count_nodes, record_so_far) as meter:
                yield meter
        except BaseException:
            record_so_far(
                meter.measured
            )  # what went wrong in the stage is the news, not that its record failed as well
            raise
        usage_records.write(self.store, self.run, record, meter.measured)

    def record_part(self, stage: str, part: str, usage: Usage) -> None:
        """Record work whose outcome stays, before the outcome is written; see `usage_records.write_part`."""
        usage_records.write_part(self.store, self.run, stage, part, usage)

    def used(self) -> dict[str, Usage]:
        """Usage per stage, summed over all attempts and workers; stages in the order in which they run."""
        totals = {}
        for name in STAGES:
            parts = [usage_records.read(uri) for uri in usage_records.uris(self.store, self.run, name)]
            if name == "stream" and (receipts := self.store.ledger(self.run)):
                parts.append(usage_of(receipts).replace(wall_s=0.0, node_s=0.0))
            if parts:
                totals[name] = sum(parts, Usage())
        return totals
