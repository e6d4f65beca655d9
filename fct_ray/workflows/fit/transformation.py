"""Fitting a transformation on pairs of one store, without upgrading it: for other stores of the same encoders.

Owns: that job's settings. Pairs, candidates and judging are the upgrade's own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.shards.model_directory import load_model
from fct_ray.values import Usage
from fct_ray.workflows.commit import run_in_progress
from fct_ray.workflows.upgrade.judgement import JudgedTransformation, fit_and_judge
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import keep_model
from fct_ray.workflows.upgrade.settings import FitOnPairsSettings, UpgradeSettings


@dataclass(frozen=True, kw_only=True)
class FitTransformationSettings(FitOnPairsSettings):
    """Fit h and its linear control on pairs of a store, to be used for another store of the same encoders."""

    output: str
    """Where the model goes: `<output>/<name>-<hash12>/`."""
    method: str = ""
    """Which candidate to keep: "fct_side", "linear_side" (with --controls also "..._noside"). Empty: the gate's choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedTransformation:
    """Where h is, how it was judged on held-out pairs of this store, and what that took."""

    uri: str
    store: str
    run: str
    rows: int
    judged: JudgedTransformation
    stages: dict[str, Usage]


def fit_for_store(settings: FitTransformationSettings, size: ClusterSize) -> FittedTransformation:
    """Fit on this store's pairs and keep the model; a refusal by the gate is reported, not enforced.

    Raises:
        SettingsError: `method` was not fitted.
    """
    shared = {part.name: getattr(settings, part.name) for part in fields(FitOnPairsSettings)}
    upgrade = UpgradeSettings(**shared)
    plan = plan_upgrade(upgrade, None, size)
    with run_in_progress(plan.store, plan.run, reads=(plan.parent.version,)) as run:
        judged, _ = fit_and_judge(plan, run.log, size)
        return FittedTransformation(
            uri=_keep(settings, judged),
            store=settings.store,
            run=plan.run,
            rows=plan.parent.num_rows,
            judged=judged,
            stages=run.log.used(),
        )


def _keep(settings: FitTransformationSettings, judged: JudgedTransformation) -> str:
    method = settings.method or judged.result.chosen
    if method not in judged.fitted:
        raise SettingsError(f"--method {method!r} was not fitted; want one of {sorted(judged.fitted)} (see --controls)")
    return keep_model(settings.output, load_model(judged.fitted[method]), judged.fitted[method])
