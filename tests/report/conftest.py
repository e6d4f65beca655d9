"""One full report by hand, whose every figure a test can name."""

from __future__ import annotations

import pytest

from fct_ray.judgements import CompatibilityRow, GateCheck, GateResult, RecoveredShare
from fct_ray.kinds import Method
from fct_ray.plan.savings import Projection
from fct_ray.report.content import Environment, Pricing, Report, Saved, Spend
from fct_ray.values import Usage


def compatibility_row(
    method: Method, query: str, gallery: str, side: bool, top1: float, map_: float
) -> CompatibilityRow:
    return CompatibilityRow(
        method=method, query=query, gallery=gallery, side_information=side, top1=top1, top5=top1 + 0.03, map=map_
    )


@pytest.fixture
def report() -> Report:
    """old/old 0.50 mAP, new/new 0.90: without side-information 0.87 (92.5 % recovered), with it 0.8828 (95.7 %)."""
    return Report(
        job="upgrade",
        store="s3://bucket/gallery",
        version=2,
        rows=30_000,
        run="upgrade-0123456789ab",
        stages={
            "stream": Usage(
                wall_s=20.0,
                busy_cpu_s=36.0,
                node_s=3600.0,
                flops=3.4e11,
                bytes_read=30 * 2**20,
                bytes_written=60 * 2**20,
                rows=30_000,
            ),
            "plan": Usage(wall_s=0.25),
            "fit": Usage(wall_s=75.0, busy_cpu_s=140.0, node_s=1800.0, flops=8e12, rows=3000),
            "embed": Usage(wall_s=1.0),
        },
        forecast=Spend(wall_s=80.0, usd=0.12, node_s=4000.0),
        actual=Spend(wall_s=96.25, usd=0.15, node_s=5400.0),
        environment=Environment(
            time="2026-11-21T10:00:00+00:00", machine="Linux, 2 CPU cores", versions={"ray": "2.60.0"}
        ),
        gate=GateResult(
            passed=True,
            num_pairs=600,
            k=10,
            chosen=Method.FCT_SIDE,
            cosine=0.95,
            agreement={Method.FCT_SIDE: 0.6, Method.OLD_OLD: 0.4},
            checks=(
                GateCheck(
                    measure="neighbour agreement", candidate=0.6, bar=0.4, margin=0.2, margin_low=0.18, passed=True
                ),
            ),
        ),
        compatibility=(
            compatibility_row(Method.NEW_NEW, "new", "new", False, 0.92, 0.90),
            compatibility_row(Method.OLD_OLD, "old", "old", False, 0.60, 0.50),
            compatibility_row(Method.FCT_SIDE, "new", "h(old, side)", True, 0.90, 0.8828),
            compatibility_row(Method.DIRECT, "new", "old", False, 0.10, 0.08),
            compatibility_row(Method.FCT_NOSIDE, "new", "h(old)", False, 0.89, 0.87),
        ),
        recovered_share={
            Method.FCT_SIDE: RecoveredShare(top1=0.9375, map=0.957),
            Method.FCT_NOSIDE: RecoveredShare(top1=0.90625, map=0.925),
        },
        saved=Saved(
            factors={"busy_compute": 1.75, "flops": 3.2},
            variants={
                "with_fitting_h": {"busy_compute": 1.75, "flops": 3.2},
                "without_fitting_h": {"busy_compute": 12.5, "flops": 711.0},
            },
            break_even_rows=14_321,
            projections=(
                Projection(rows=30_000, upgrade=Usage(busy_cpu_s=40.0), full=Usage(busy_cpu_s=70.0), in_advance=None),
                Projection(
                    rows=1_000_000_000,
                    upgrade=Usage(busy_cpu_s=1000.0),
                    full=Usage(busy_cpu_s=10_000.0),
                    in_advance=Usage(busy_cpu_s=500.0),
                ),
            ),
        ),
        pricing=Pricing(
            node_type="m7i.large",
            usd_per_node_hour=0.10,
            spot=False,
            book_date="2026-11-21",
            region="us-east-1",
            vcpus=2,
        ),
        notes=("models came from the cache",),
        settings={"seed": 0, "index": "Flat"},
    )
