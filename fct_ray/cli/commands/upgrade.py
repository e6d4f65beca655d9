"""Upgrade the vectors and the index of a store to a new encoder, without re-embedding it.

With no arguments: the quick start. It fits small models on real images, builds an index with the old one, upgrades it to
the new one, and compares that with embedding everything again.

    fct-ray upgrade
    fct-ray upgrade --store S --encoder NEW --pairs pairs.parquet --index "IVF1024,PQ16"
    fct-ray upgrade --store S --encoder models/new-0123456789ab --source images:s3://bucket/photos --refine-budget 5%
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.engine.cluster import connected
from fct_ray.errors import SettingsError
from fct_ray.report.content import Pricing
from fct_ray.report.outcomes import plan_report, upgrade_report
from fct_ray.workflows.quickstart import QuickstartSettings, run_quickstart
from fct_ray.workflows.upgrade.plan import UpgradePlan, plan_upgrade
from fct_ray.workflows.upgrade.preview import Preview, can_judge, preview
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

WANT_A_STORE = (
    "plan", "encoder", "pairs", "source", "num_pairs", "transformation", "side_info", "metric", "fit", "fit_dir",
    "start_from", "queries", "refine_budget",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings(JobSettings, UpgradeSettings):
    """An upgrade, or with no --store the quick start."""

    store: str = ""
    """The store: a directory or s3:// prefix. Empty: the quick start."""
    encoder: str = ""
    """The new encoder: a model directory, `package.module:factory`, a pretrained model by name (e.g. "openai:MODEL@URL"), or
    (with --pairs) any name for it."""
    plan: bool = False
    """Stop after planning: print what would be done, what each way of upgrading takes and, with --pairs, what it is worth.
    Nothing is embedded, and the versions of the store are untouched."""
    quickstart: QuickstartSettings = field(default_factory=QuickstartSettings)
    """What the quick start shows."""


def run(settings: Settings) -> Finished:
    """Plan, then upgrade; or the quick start."""
    pricing = pricing_of(settings.pricing)
    if not settings.store:
        _refuse_what_the_quick_start_ignores(settings)
        with connected(settings.cluster) as size:
            shown = run_quickstart(settings.quickstart, settings, size, pricing.usd_per_node_hour)
        return finish(
            upgrade_report(shown.upgrade, settings, pricing, shown.against),
            settings.report_dir or f"{shown.reports_uri}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
            refused=shown.upgrade.published is None,
        )
    plan = plan_upgrade(settings, pricing.usd_per_node_hour, None)
    if settings.plan:
        return finish(plan_report(plan, settings, pricing, _preview(plan, settings, pricing)), settings.report_dir)
    with connected(settings.cluster) as size:
        outcome = run_upgrade(plan, size)
    return finish(upgrade_report(outcome, settings, pricing), settings.report_dir, refused=outcome.published is None)


def _preview(plan: UpgradePlan, settings: Settings, pricing: Pricing) -> Preview:
    """The table of ways; judged, on a cluster, where that costs no embedding."""
    if not can_judge(plan):
        return preview(plan, None, pricing.usd_per_node_hour)
    with connected(settings.cluster) as size:
        return preview(plan, size, pricing.usd_per_node_hour)


def _refuse_what_the_quick_start_ignores(settings: Settings) -> None:
    given = [name for name in WANT_A_STORE if getattr(settings, name) != getattr(Settings(), name)]
    if given:
        flag = given[0].replace("_", "-")
        raise SettingsError(
            f"--{flag} is given without --store: the quick start does not use it; give --store, or see "
            "--quickstart.* in --help for what the quick start can be told"
        )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job((Settings, run), __doc__ or "", argv, program)
