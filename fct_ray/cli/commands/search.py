"""Search CURRENT of a store with the embeddings of queries; refuses a query encoder that does not match it.

Examples:
    fct-ray search --store S --queries q.parquet --encoder NAME --k 10 --output found.parquet

In: columns `id`, `embedding`. Out: columns `query`, `rank` (from 0), `id`, `score`, best first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.report.outcomes import version_report
from fct_ray.workflows.search import SearchSettings, search_file


@dataclass(frozen=True, kw_only=True)
class Settings(SearchSettings):
    """Search CURRENT of a store."""

    pricing: PricingSettings = field(default_factory=PricingSettings)
    """What node-hours cost."""
    report_dir: str | None = None
    """Where the report goes. None: beside the output."""


def run(settings: Settings) -> Finished:
    """Search and write what was found."""
    pricing = pricing_of(settings.pricing)
    manifest, usage = search_file(settings)
    report = version_report("search", settings.store, manifest, {"search": usage}, settings, pricing)
    return finish(report, settings.report_dir or f"{settings.output}.report")


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job((Settings, run), __doc__ or "", argv, program)
