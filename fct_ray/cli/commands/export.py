"""Write a version of a store to another system: ids or keys, vectors, carried columns; switched to when it is whole.

Examples:
    fct-ray export --store S --to parquet:vectors-v2
    fct-ray export --store S --to faiss:all.faiss --index IVF1024,Flat
    fct-ray export --store S --to lancedb:db#items --replace
    fct-ray export --store S --to pgvector:postgresql://me@host/shop#items --replace
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.engine.cluster import connected
from fct_ray.report.export_outcome import export_report
from fct_ray.workflows.export import ExportSettings, plan_export, run_export


@dataclass(frozen=True, kw_only=True)
class Settings(JobSettings, ExportSettings):
    """Write a version to another system: ids or keys, vectors, carried columns, metric."""


def run(settings: Settings) -> Finished:
    """Export."""
    pricing, plan = pricing_of(settings.pricing), plan_export(settings)
    with connected(settings.cluster):
        outcome = run_export(plan)
    return finish(export_report(outcome, settings, pricing), settings.report_dir)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job((Settings, run), __doc__ or "", argv, program)
