"""The comparison job on a local store: both ways done in one run, the store itself untouched."""

from __future__ import annotations

import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import Method
from fct_ray.report.outcomes import comparison_report
from fct_ray.storage.store import Store
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.compare import CompareSettings, ComparisonOutcome, run_compare
from tests.fashion_vectors import fashion_vectors
from tests.galleries import linear_h

GALLERY, ENCODERS = "fashion-mnist:gallery?limit=4000", "tests.jobs.fashion_encoders"


@pytest.fixture(scope="module")
def store(cluster: ClusterSize, tmp_path_factory: pytest.TempPathFactory) -> Store:
    uri = str(tmp_path_factory.mktemp("compare") / "a store")
    settings = BackfillSettings(
        store=uri, source=GALLERY, encoder=f"{ENCODERS}:old", side=f"{ENCODERS}:side", rows_per_shard=1000
    )
    run_backfill(plan_backfill(settings), cluster)
    return Store(uri)


@pytest.fixture(scope="module")
def outcome(store: Store, cluster: ClusterSize, tmp_path_factory: pytest.TempPathFactory) -> ComparisonOutcome:
    h = linear_h(store, fashion_vectors(4000), f"{ENCODERS}:new", tmp_path_factory.mktemp("models"))
    settings = CompareSettings(
        store=store.uri, encoder=f"{ENCODERS}:new", source=GALLERY, queries="fashion-mnist:query?limit=500",
        old_encoder=f"{ENCODERS}:old", side_encoder=f"{ENCODERS}:side", num_pairs=1500, rows_per_shard=2000,
        transformation=h,
    )  # fmt: skip
    return run_compare(settings, cluster, 0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_upgrade_recovers_most_of_the_gain_and_both_are_counted(outcome: ComparisonOutcome, store: Store) -> None:
    chosen = outcome.upgrade.judged
    assert chosen is not None
    quality, saved = outcome.against.quality, outcome.against.saved
    rows = {row.method: row for row in quality.rows}
    assert rows[Method.OLD_OLD].map < rows[chosen.result.chosen].map < rows[Method.NEW_NEW].map
    assert quality.recovered[chosen.result.chosen].map > 0.5
    assert saved.all_work["flops"] < saved.variants["without_fitting_h"]["flops"]
    assert outcome.against.backfill.published.num_rows == 4000
    assert store.manifest().version == 1


@pytest.mark.slow
def test_its_report_has_the_stages_of_both(outcome: ComparisonOutcome) -> None:
    report = comparison_report(outcome, CompareSettings(
        store="s", encoder="e", queries="q", old_encoder="o"
    ), pricing_of(PricingSettings()))  # fmt: skip
    assert {"stream", "backfill_stream"} <= set(report.stages)
    assert report.stages["stream"].rows == report.stages["backfill_stream"].rows == 4000
    assert report.actual is not None
    assert report.actual.node_s == pytest.approx(sum(usage.node_s for usage in report.stages.values()))
    assert report.forecast is not None
    assert report.forecast.wall_s > outcome.upgrade.plan.forecast.wall_s
    assert report.saved is not None
    assert report.actual is not None
    assert report.actual.node_s == pytest.approx(sum(usage.node_s for usage in report.stages.values()))
