"""What a job's report holds: one frozen value that every renderer reads.

Owns: the shape of a report. Knows no file format, no clock and no measurement: jobs fill it from usage records,
the gate and the evaluation. Units are suffixes: `_s` seconds, `_usd` US dollars; qualities are shares of 1;
savings are factors, full backfill over upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fct_ray.judgements import CompatibilityRow, GateResult, RecoveredShare
from fct_ray.kinds import Method
from fct_ray.plan.cost import cost_usd
from fct_ray.plan.forecast import Forecast
from fct_ray.plan.savings import Projection
from fct_ray.plan.stages import STAGES
from fct_ray.plan.way_forecast import WayForecast
from fct_ray.values import Usage

SAVED_KEYS = ("busy_compute", "flops", "usd", "node_s")
"""The factors of `Saved`, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What a run took; `usd` is None where no price is known, and then the hours are reported instead."""

    wall_s: float
    usd: float | None
    node_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pricing:
    """The price that money in this report was computed with, and where it came from."""

    node_type: str
    usd_per_node_hour: float
    spot: bool
    book_date: str
    region: str
    vcpus: int
    gpus: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """How much cheaper the upgrade was than the full backfill it replaced, as factors (3.0: a third of the work).

    A key that was not measured is absent from a mapping; it is shown as n/a and written as null, never as zero.
    """

    factors: Mapping[str, float]
    """The headline, of `SAVED_KEYS`: all work of the upgrade counted, as `plan.cost.saved` gives it."""
    variants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same with less or more of the one-off work counted; names as in `plan.savings.work_saved`."""
    break_even_rows: int | None = None
    """Smallest gallery for which the upgrade costs no more than the full backfill; None if there is none."""
    projections: tuple[Projection, ...] = ()
    """The work of both for this gallery, and for larger ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Where and when the numbers were measured."""

    time: str
    """ISO 8601 with its offset."""
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a job's report says; fields that do not apply keep their defaults and are left out."""

    job: str
    store: str
    version: int | None
    """The version that was published, or that the job looked at; None if it made and read none."""
    rows: int
    run: str
    stages: Mapping[str, Usage]
    forecast: Forecast | Spend | None
    """None where the job does not forecast; written with null values."""
    actual: Spend | None
    """None with `--plan`, which spends nothing; written with null values."""
    environment: Environment
    gate: GateResult | None = None
    planned_ways: tuple[WayForecast, ...] = ()
    """With `--plan`: every way of upgrading, what it is worth, as far as that is known, and what it takes."""
    compatibility: tuple[CompatibilityRow, ...] = ()
    recovered_share: Mapping[Method, RecoveredShare] = field(default_factory=dict)
    saved: Saved | None = None
    pricing: Pricing | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def ordered_stages(self) -> tuple[tuple[str, Usage], ...]:
        """Stages in the order of `STAGES`, then the job's own in the order given."""
        known = [(name, self.stages[name]) for name in STAGES if name in self.stages]
        return (*known, *((name, usage) for name, usage in self.stages.items() if name not in STAGES))

    def stage_usd(self, stage: str) -> float | None:
        """US dollars for the node-seconds of one stage; None where that is not known."""
        price = None if self.pricing is None else self.pricing.usd_per_node_hour
        return cost_usd(self.stages[stage], price)
