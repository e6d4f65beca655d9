"""Measure what an upgrade saves against a full backfill of the same gallery, and what both are worth.

Examples:
    fct-ray compare --store S --source images:s3://bucket/photos --encoder models/new-0123456789ab \
        --old-encoder models/old-0123456789ab --queries images:s3://bucket/queries

The store's versions are only read: both runs write scratch stores (--work-dir).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.engine.cluster import connected
from fct_ray.report.outcomes import comparison_report
from fct_ray.workflows.compare import CompareSettings, run_compare


@dataclass(frozen=True, kw_only=True)
class Settings(JobSettings, CompareSettings):
    """Measure what an upgrade saves."""


def run(settings: Settings) -> Finished:
    """Upgrade a copy, backfill another, compare."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster) as size:
        outcome = run_compare(settings, size, pricing.usd_per_node_hour)
    return finish(comparison_report(outcome, settings, pricing), settings.report_dir)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job((Settings, run), __doc__ or "", argv, program)
