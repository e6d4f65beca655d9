"""The report of an export, from what the workflow returned. Owns: which of its figures are shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fct_ray.report.content import Pricing, Report
from fct_ray.report.outcomes import version_report

if TYPE_CHECKING:
    from fct_ray.workflows.export import Exported


def export_report(outcome: Exported, settings: object, pricing: Pricing) -> Report:
    """What was written where, how much of it was read back, and what people should know of the switch."""
    manifest = outcome.manifest
    report = version_report("export", outcome.store.uri, manifest, outcome.stages, settings, pricing)
    if outcome.done_before:
        done = f"nothing to do: this very command exported version {manifest.version} to {outcome.place} before"
    else:
        done = (
            f"version {manifest.version}, {manifest.num_rows:,} rows, is at {outcome.place}; "
            f"{outcome.num_compared:,} rows were read back before the switch and are as they were written"
        )
    peak = outcome.peak_memory_bytes
    memory = (f"peak memory of a worker process: {peak / 2**30:.2f} GiB",) if peak else ()
    return dataclasses.replace(report, run=outcome.run, notes=(done, *outcome.notes, *memory))
