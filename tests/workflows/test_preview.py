"""The table of `--plan`: what each way of upgrading takes and is worth, without writing or embedding anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.kinds import Method, Verdict, WayChoice
from fct_ray.report.outcomes import plan_report
from fct_ray.report.tables import planned_ways_table
from fct_ray.workflows.upgrade import candidates
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.preview import can_judge, preview
from fct_ray.workflows.upgrade.run import run_upgrade
from tests.workflows.asked import by_queries, noisy_photos
from tests.workflows.living import Living


@pytest.mark.journey
def test_the_ways_are_judged_as_the_upgrade_then_judges_them_and_nothing_is_written(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "network_is_promising", lambda *_: False)  # Ray Train takes long to start
    settings = by_queries(living, noisy_photos(living).write(tmp_path / "queries.parquet"), WayChoice.FUSED)
    plan, before = plan_upgrade(settings, 1.0, None), _files(living)
    seen = preview(plan, living.size, 1.0)
    assert _files(living) == before
    assert seen.result is not None
    assert seen.result.verdict is Verdict.UPGRADE
    outcome = run_upgrade(plan, living.size)
    assert outcome.judged is not None
    assert outcome.judged.result.ways == seen.result.ways

    table = planned_ways_table(plan_report(plan, settings, pricing_of(PricingSettings()), seen))
    assert table is not None
    assert [seen.ways[0].method, seen.ways[1].method, seen.ways[-1].method] == [
        Method.OLD_OLD,
        seen.result.chosen,
        Method.NEW_NEW,
    ]
    assert table.rows[0][3] != "not known"
    assert table.rows[1][5] == "yes"
    assert "$" in table.rows[1][6]
    assert table.rows[-1][3] == table.rows[-1][6] == "not known"  # no raw items, no encoder


def test_without_pairs_at_hand_each_sort_of_way_says_what_it_takes(living: Living) -> None:
    settings = replace(
        living.settings(),
        transformation=None,
        pairs=None,
        source="fashion-mnist:gallery",
        encoder="tests.jobs.fashion_encoders:new",
    )
    plan = plan_upgrade(settings, 1.0, None)
    assert not can_judge(plan)
    seen = preview(plan, None, 1.0)
    assert seen.result is None
    by_method = {line.method: line for line in seen.ways}
    assert set(by_method) == {
        Method.OLD_OLD,
        Method.FUSED_WHITENED,
        Method.LINEAR_SIDE,
        Method.FCT_SIDE,
        Method.FUSED_LINEAR,
        Method.NEW_NEW,
    }
    network, linear = by_method[Method.FCT_SIDE].forecast, by_method[Method.LINEAR_SIDE].forecast
    assert network is not None
    assert linear is not None
    assert network.wall_s > linear.wall_s
    assert network == plan.forecast
    assert all(line.check is None for line in seen.ways)


def _files(living: Living) -> dict[str, int]:
    root = Path(living.store.uri)
    return {str(path): path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}
