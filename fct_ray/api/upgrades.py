"""A planned upgrade and what became of it, as values that show themselves in a notebook."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fct_ray.api.session import connect
from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.judgements import GateResult
from fct_ray.plan.forecast import Forecast
from fct_ray.report.content import Report
from fct_ray.report.html_fragment import render_fragment
from fct_ray.report.outcomes import plan_report, upgrade_report
from fct_ray.report.report_files import write_report
from fct_ray.storage import objects
from fct_ray.values import Usage
from fct_ray.workflows.upgrade import plan as planning
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade


@dataclass(frozen=True, kw_only=True)
class UpgradeResult:
    """What an upgrade did."""

    outcome: UpgradeOutcome
    report: Report
    """Everything that was measured."""

    @property
    def version(self) -> int | None:
        """The published version; None if the gate refused, and then nothing was written."""
        return None if self.outcome.published is None else self.outcome.published.version

    @property
    def gate(self) -> GateResult | None:
        """What the gate measured and decided."""
        return None if self.outcome.judged is None else self.outcome.judged.result

    @property
    def transformation(self) -> str | None:
        """The model directory of h, to be given to `load_transformation`; in the store's `models/` once it is published."""
        made = None if self.outcome.published is None else self.outcome.published.transformation
        if made is not None:
            return objects.join(self.outcome.plan.store.models_uri(), f"{made.name}-{made.fingerprint[:12]}")
        return None if self.outcome.judged is None else self.outcome.judged.uri

    @property
    def stages(self) -> Mapping[str, Usage]:
        """The work of every stage, summed over all attempts."""
        return self.outcome.stages

    def save_report(self, directory: str | Path | None = None) -> str:
        """Write report.json, report.md and report.html; returns the location of report.json.

        `directory` is local or s3://. None: with the run in the store, where the command line writes it too.
        """
        own_place = self.outcome.plan.store.run_uri(self.report.run, "report")
        return write_report(self.report, own_place if directory is None else str(directory), objects.write_bytes)

    def __repr__(self) -> str:
        """The outcome in one line."""
        if self.version is None:
            return f"<UpgradeResult: refused, nothing was published: {'' if self.gate is None else self.gate.reason}>"
        return f"<UpgradeResult: version {self.version}, {self.report.rows:,} rows>"

    def _repr_html_(self) -> str:
        return render_fragment(self.report)


@dataclass(frozen=True, kw_only=True)
class PlannedUpgrade:
    """What an upgrade would do and take; `run()` does it."""

    plan: planning.UpgradePlan
    pricing: PricingSettings
    in_memory: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)
    """Holds pairs that were given as a table, for as long as the plan is."""

    @property
    def forecast(self) -> Forecast:
        """Time, node-seconds and money that it is expected to take."""
        return self.plan.forecast

    @property
    def report(self) -> Report:
        """What is planned, checked and forecast: the same report as `fct-ray upgrade --plan`."""
        return plan_report(self.plan, self.plan.settings, pricing_of(self.pricing))

    def run(self) -> UpgradeResult:
        """Upgrade: pairs, fit, gate, stream, verify, publish. Called again after a kill, it resumes.

        Raises:
            FctRayError: a stage failed; nothing was published and finished work is kept.
        """
        outcome = run_upgrade(self.plan, connect())
        report = upgrade_report(outcome, self.plan.settings, pricing_of(self.pricing))
        return UpgradeResult(outcome=outcome, report=report)

    def __repr__(self) -> str:
        """The plan in one line."""
        parent, new = self.plan.parent, self.plan.choice.ref.name
        return (
            f"<PlannedUpgrade: version {parent.version} ({parent.num_rows:,} rows, {parent.encoder.name}) to {new}, "
            f"forecast {self.forecast.wall_s:,.0f} s>"
        )

    def _repr_html_(self) -> str:
        return render_fragment(self.report)
