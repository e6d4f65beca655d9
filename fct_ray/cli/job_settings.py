"""What every job that works on a cluster can be told besides its own settings: where, at what price, report to where."""

from __future__ import annotations

from dataclasses import dataclass, field

from fct_ray.cli.pricing import PricingSettings
from fct_ray.engine.cluster import ClusterSettings
from fct_ray.settings import CheckedSettings


@dataclass(frozen=True, kw_only=True)
class JobSettings(CheckedSettings):
    """Where the work runs, what it costs, and where its report goes."""

    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    """Where the work runs."""
    pricing: PricingSettings = field(default_factory=PricingSettings)
    """What node-hours cost."""
    report_dir: str | None = None
    """Where the report goes. None: with the run in the store (`runs/<run id>/report`); of a fit beside the model."""
