"""Make a version of a store: embed raw items (full backfill), adopt or import embeddings that exist, append, delete items.

Examples:
    fct-ray backfill --store S --source images:s3://bucket/photos --encoder models/old-0123456789ab
    fct-ray adopt --store S --embeddings "s3://bucket/vectors/*.parquet" --encoder NAME --metric ip
    fct-ray import --store S --origin lancedb:/data/db#items --encoder NAME
    fct-ray append --store S --embeddings new.parquet --encoder NAME
    fct-ray delete --store S --ids gone.parquet
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.engine.cluster import connected
from fct_ray.report.outcomes import adopt_report, edit_report, embed_report, import_report
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.delete import DeleteSettings, delete
from fct_ray.workflows.import_gallery import ImportSettings, plan_import, run_import


@dataclass(frozen=True, kw_only=True)
class Backfill(JobSettings, BackfillSettings):
    """Embed every raw item of a source: embeddings, side-information and index of a new version."""


@dataclass(frozen=True, kw_only=True)
class Adopt(JobSettings, AdoptSettings):
    """Make a store out of existing Parquet embeddings, where they lie: nothing is copied (but objects with bad rows)."""


@dataclass(frozen=True, kw_only=True)
class Import(JobSettings, ImportSettings):
    """Make a store out of a gallery in another system: a database, a table format, files of other tools. It is only read."""


@dataclass(frozen=True, kw_only=True)
class Append(JobSettings, AppendSettings):
    """Add items to a gallery, as a new version: existing embeddings of its encoder, or raw items that it embeds."""


@dataclass(frozen=True, kw_only=True)
class Delete(JobSettings, DeleteSettings):
    """Take items out of a gallery, as a new version; older versions keep them until they are collected (store.py gc)."""


def backfill(settings: Backfill) -> Finished:
    """Full backfill."""
    pricing, plan = pricing_of(settings.pricing), plan_backfill(settings)
    with connected(settings.cluster) as size:
        outcome = run_backfill(plan, size)
    return finish(embed_report(outcome, settings, pricing), settings.report_dir)


def adopt(settings: Adopt) -> Finished:
    """Take over embeddings in place."""
    pricing, plan = pricing_of(settings.pricing), plan_adopt(settings)
    with connected(settings.cluster):
        outcome = run_adopt(plan)
    return finish(adopt_report(outcome, settings, pricing), settings.report_dir)


def import_gallery(settings: Import) -> Finished:
    """Copy a gallery out of another system."""
    pricing, plan = pricing_of(settings.pricing), plan_import(settings)
    with connected(settings.cluster):
        outcome = run_import(plan)
    return finish(import_report(outcome, settings, pricing), settings.report_dir)


def append_items(settings: Append) -> Finished:
    """Add items."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster) as size:
        outcome = append(settings, size)
    return finish(edit_report("append", outcome, settings, pricing), settings.report_dir)


def delete_items(settings: Delete) -> Finished:
    """Take items out."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster):
        outcome = delete(settings)
    return finish(edit_report("delete", outcome, settings, pricing), settings.report_dir)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job(
        {
            "backfill": (Backfill, backfill),
            "adopt": (Adopt, adopt),
            "import": (Import, import_gallery),
            "append": (Append, append_items),
            "delete": (Delete, delete_items),
        },
        __doc__ or "",
        argv,
        program,
    )
