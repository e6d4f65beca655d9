"""report.json: the report for programs, with the keys that the store's documentation promises.

Owns: the names and nesting of the keys. Every documented key is always there: a stage lists all of its measures,
and a figure that is not known is null, never zero and never NaN. `node_s` per stage, `method` per compatibility
row, `run`, `settings`, `environment`, `notes` and `pricing` come on top of the documented keys.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from fct_ray.plan.forecast import Forecast
from fct_ray.plan.savings import Projection
from fct_ray.report.content import SAVED_KEYS, Report, Saved, Spend
from fct_ray.values import Usage

_STAGE_KEYS = ("wall_s", "busy_cpu_s", "busy_gpu_s", "node_s", "flops", "bytes_read", "bytes_written", "rows", "tokens")
_SPEND_KEYS = ("wall_s", "usd", "node_s")


def render_json(report: Report) -> bytes:
    """The report as UTF-8 JSON, one key a line; keys that do not apply (`gate`, `saved` ...) are left out."""
    return (json.dumps(document(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def document(report: Report) -> dict[str, Any]:
    """The report as plain dictionaries, lists, strings and finite numbers."""
    content: dict[str, Any] = {
        "job": report.job,
        "store": report.store,
        "version": report.version,
        "rows": report.rows,
        "run": report.run,
        "stages": {name: _stage(usage) for name, usage in report.ordered_stages()},
        "forecast": _spend(report.forecast),
        "actual": _spend(report.actual),
        "environment": report.environment,
        "settings": report.settings,
        "notes": report.notes,
    }
    optional: dict[str, Any] = {
        "gate": report.gate,
        "planned_ways": report.planned_ways or None,
        "compatibility": report.compatibility or None,
        "recovered_share": report.recovered_share or None,
        "saved": None if report.saved is None else _saved(report.saved),
        "pricing": report.pricing,
    }
    content |= {key: value for key, value in optional.items() if value is not None}
    plain = _plain(content)
    assert isinstance(plain, dict)  # noqa: S101  (a dictionary stays one; said for the type checker)
    return plain


def _stage(usage: Usage) -> dict[str, float]:
    return {key: getattr(usage, key) for key in _STAGE_KEYS}


def _spend(spend: Forecast | Spend | None) -> dict[str, float | None]:
    return {key: None if spend is None else getattr(spend, key) for key in _SPEND_KEYS}


def _saved(saved: Saved) -> dict[str, Any]:
    return _factors(saved.factors) | {
        "break_even_rows": saved.break_even_rows,
        "variants": {name: _factors(factors) for name, factors in saved.variants.items()},
        "projections": [_projection(projection) for projection in saved.projections],
    }


def _projection(projection: Projection) -> dict[str, Any]:
    parts = {"upgrade": projection.upgrade, "full": projection.full, "in_advance": projection.in_advance}
    return {"rows": projection.rows} | {name: usage and _stage(usage) for name, usage in parts.items()}


def _factors(factors: Mapping[str, float]) -> dict[str, float | None]:
    return {key: factors.get(key) for key in SAVED_KEYS}


def _plain(value: object) -> object:
    """What json.dumps can write: dataclasses as dictionaries, non-finite numbers as null, the rest as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
