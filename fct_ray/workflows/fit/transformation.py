"""Fitting a transformation on pairs of one store, without upgrading it: for other stores of the same encoders.

Owns: that job's settings. Pairs, candidates and judging are the upgrade's own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.kinds import Method, WayChoice
from fct_ray.values import Usage
from fct_ray.workflows.commit import run_in_progress
from fct_ray.workflows.upgrade.candidates import methods_fitted
from fct_ray.workflows.upgrade.judgement import JudgedWays, fit_and_judge
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import keep_model
from fct_ray.workflows.upgrade.settings import FitOnPairsSettings, UpgradeSettings


@dataclass(frozen=True, kw_only=True)
class FitTransformationSettings(FitOnPairsSettings):
    """Fit h and its linear control on pairs of a store, to be used for another store of the same encoders."""

    output: str
    """Where the model goes: `<output>/<name>-<hash12>/`."""
    method: Method | None = None
    """Which candidate to keep (those without side-information are fitted with --controls, or where the store has none).
    None: the gate's choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedTransformation:
    """Where h is, how it was judged on held-out pairs of this store, and what that took."""

    uri: str
    store: str
    run: str
    rows: int
    judged: JudgedWays
    stages: dict[str, Usage]


def fit_for_store(settings: FitTransformationSettings, size: ClusterSize) -> FittedTransformation:
    """Fit on this store's pairs and keep the model; a refusal by the gate is reported, not enforced.

    Raises:
        SettingsError: `method` is none of those that are fitted; nothing was started.
    """
    shared = {part.name: getattr(settings, part.name) for part in fields(FitOnPairsSettings)}
    upgrade = UpgradeSettings(**{**shared, "way": WayChoice.H})
    plan = plan_upgrade(upgrade, None, size)
    wanted, fitted = settings.method, methods_fitted(use_side=plan.use_side, controls=settings.controls)
    if wanted is not None and wanted not in fitted:
        raise SettingsError(f"--method {wanted} is not fitted here; want one of {', '.join(fitted)} (see --controls)")
    with run_in_progress(plan.store, plan.run, reads=(plan.parent.version,)) as run:
        judged, _ = fit_and_judge(plan, run.log, size)
        return FittedTransformation(
            uri=_keep(wanted or judged.result.chosen, settings.output, judged),
            store=settings.store,
            run=plan.run,
            rows=plan.parent.num_rows,
            judged=judged,
            stages=run.log.used(),
        )


def _keep(method: Method, output: str, judged: JudgedWays) -> str:
    return keep_model(output, judged.fitted[method])
