"""report.json: the keys that outside tools rely on, always all of them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from fct_ray.judgements import RecoveredShare
from fct_ray.kinds import Method
from fct_ray.plan.forecast import Forecast
from fct_ray.report.content import Report, Saved
from fct_ray.report.json_file import render_json

ALWAYS = {"job", "store", "version", "rows", "stages", "forecast", "actual"}
STAGE_KEYS = {"wall_s", "busy_cpu_s", "busy_gpu_s", "flops", "bytes_read", "bytes_written", "rows"}
APPLYING = {"gate", "compatibility", "recovered_share", "saved"}


def parsed(report: Report) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(render_json(report))
    return content


def bare(report: Report) -> Report:
    return dataclasses.replace(
        report,
        forecast=None,
        actual=None,
        gate=None,
        compatibility=(),
        recovered_share={},
        saved=None,
        pricing=None,
        notes=(),
        settings={},
        stages={},
    )


def test_documented_keys_are_there_even_when_nothing_applies(report: Report) -> None:
    content = parsed(bare(report))
    assert content.keys() >= ALWAYS
    assert not content.keys() & APPLYING
    assert content["forecast"] == content["actual"] == {"wall_s": None, "usd": None, "node_s": None}


def test_every_stage_lists_all_its_measures_in_the_order_of_the_work(report: Report) -> None:
    stages = parsed(report)["stages"]
    assert list(stages) == ["plan", "fit", "stream", "embed"]  # known stages first, then the job's own
    assert all(stage.keys() >= STAGE_KEYS for stage in stages.values())
    assert stages["stream"]["bytes_read"] == 31_457_280
    assert stages["plan"]["rows"] == 0


def test_compatibility_recovered_share_and_gate_have_their_documented_fields(report: Report) -> None:
    content = parsed(report)
    assert content["compatibility"][0].keys() >= {"query", "gallery", "side_information", "top1", "top5", "map"}
    assert content["recovered_share"]["fct_side"] == {"top1": 0.9375, "map": 0.957}
    assert content["gate"]["passed"] is True
    assert content["gate"]["checks"][0]["margin_low"] == 0.18


def test_saved_has_its_four_factors_and_unknown_ones_are_null_and_not_zero(report: Report) -> None:
    saved = parsed(report)["saved"]
    assert saved["busy_compute"] == 1.75
    assert saved["usd"] is None
    assert saved["node_s"] is None
    assert saved["variants"]["without_fitting_h"]["flops"] == 711.0
    assert saved["break_even_rows"] == 14_321


def test_money_is_null_without_a_price(report: Report) -> None:
    unpriced = Forecast(wall_s=1.0, node_s=2.0, usd=None, bound="compute")
    assert parsed(dataclasses.replace(report, forecast=unpriced))["forecast"] == {
        "wall_s": 1.0,
        "usd": None,
        "node_s": 2.0,
    }


def test_numbers_that_json_cannot_write_become_null(report: Report) -> None:
    odd = dataclasses.replace(
        report,
        recovered_share={Method.LINEAR_SIDE: RecoveredShare(top1=math.nan, map=math.inf)},
        saved=Saved(factors={"flops": math.inf}),
    )
    content = parsed(odd)
    assert content["recovered_share"]["linear_side"] == {"top1": None, "map": None}
    assert content["saved"]["flops"] is None


def test_settings_of_any_type_are_written_as_something_readable(report: Report) -> None:
    odd = dataclasses.replace(report, settings={"path": Path("a/b"), "nested": {"k": (1, 2)}, "none": None})
    assert parsed(odd)["settings"] == {"path": "a/b", "nested": {"k": [1, 2]}, "none": None}


def test_the_same_report_is_the_same_bytes(report: Report) -> None:
    assert render_json(report) == render_json(dataclasses.replace(report))
