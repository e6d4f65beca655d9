"""A line of the table that planning an upgrade shows: what a way of upgrading is worth, as far as that is known, and takes.

Owns: that line. Judging ways is plan/verdict's, forecasts are plan/forecast's.
"""

from __future__ import annotations

from dataclasses import dataclass

from fct_ray.judgements import GateCheck
from fct_ray.kinds import Method, QueryRole
from fct_ray.plan.forecast import Forecast


@dataclass(frozen=True, kw_only=True, slots=True)
class WayForecast:
    """One way of upgrading before anything is paid."""

    method: Method
    variant: str = ""
    """The weights of its blocks; empty where there is nothing to choose."""
    check: GateCheck | None = None
    """Its deciding measure against doing nothing; None where it was not judged."""
    clears: bool = False
    """Whether it would be published by the evidence at hand, if that shows all that was asked for."""
    query_roles: tuple[QueryRole, ...]
    """Which embeddings of a query it needs."""
    bytes_per_item: int
    """How many bytes one item's vector takes in the shards (float32); 0 where nothing is written."""
    forecast: Forecast | None
    """What upgrading by it takes, pairs and gate included; None where that is nothing, or not known."""
