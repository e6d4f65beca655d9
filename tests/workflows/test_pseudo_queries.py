"""Pseudo-queries: other views of items look for these items, and both tasks are told."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import count_nodes
from fct_ray.errors import SettingsError
from fct_ray.evaluation.queries import JudgedQueries, query_measures
from fct_ray.evaluation.ways import doing_nothing
from fct_ray.kinds import EvidenceKind, Method, Metric, QueryRole, Task, Verdict, WayChoice
from fct_ray.metering.meters import measure_stage
from fct_ray.plan.splits import gate_mask
from fct_ray.report.outcomes import plan_report
from fct_ray.sources.registry import open_source
from fct_ray.sources.views import Crop
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef, QueryInput
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.commit import run_in_progress
from fct_ray.workflows.upgrade.evidence import as_gallery
from fct_ray.workflows.upgrade.judgement import JudgedWays, fit_and_judge
from fct_ray.workflows.upgrade.kinds_of_evidence import EvidenceSources
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan, plan_upgrade
from fct_ray.workflows.upgrade.pseudo_origin import check_pseudo_origin
from fct_ray.workflows.upgrade.pseudo_queries import pseudo_evidence
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.jobs import fashion_encoders
from tests.workflows.asked import NOISE, write_new
from tests.workflows.living import START, Living

ENCODERS, GALLERY = "tests.jobs.fashion_encoders", f"fashion-mnist:gallery?limit={START}"


@pytest.fixture(scope="module")
def shop(adopted: Living, tmp_path_factory: pytest.TempPathFactory) -> Living:
    """The gallery of photos, whose old and side models are at hand."""
    made = adopted.copy(tmp_path_factory.mktemp("shop"))
    made.store = adopted_by_models(made.directory / "shop", adopted.photos)
    return made


def adopted_by_models(store: Path, rows: Path) -> Store:
    """A store of vectors whose old and side models are named by where they are."""
    old, side = f"{ENCODERS}:old", f"{ENCODERS}:side"
    run_adopt(plan_adopt(AdoptSettings(store=str(store), embeddings=str(rows), encoder=old, side=side)))
    return Store(str(store))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of the gallery's photos with noise on every pixel, by id."""
    gallery, rng = open_source(GALLERY), np.random.default_rng(3)
    images = gallery.read(np.arange(START)).columns["image"][..., 0]
    photos = []
    for image in np.clip(images + rng.normal(0.0, 255 * NOISE, images.shape), 0, 255).astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        photos.append(buffer.getvalue())
    directory = tmp_path_factory.mktemp("noisy")
    pq.write_table(pa.table({"id": gallery.ids_N, "photo": photos}), directory / "noisy.parquet")
    return f"parquet:{directory}?image=photo"


def by_views(shop: Living, **changed: Any) -> UpgradeSettings:
    settings = UpgradeSettings(
        store=shop.store.uri,
        encoder=f"{ENCODERS}:new",
        source=GALLERY,
        num_pairs=800,
        views="crop",
        old_encoder=f"{ENCODERS}:old",
        side_encoder=f"{ENCODERS}:side",
        task=Task.KNOWN_ITEM,
        way=WayChoice.NOTHING_FITTED,
        index="IVF16,Flat",
        pool=PoolSettings(min_actors=1, max_actors=1),
    )
    return dataclasses.replace(settings, **changed)


def judged(plan: UpgradePlan, shop: Living) -> JudgedWays:
    """Pairs, fit and gate; nothing is published."""
    with run_in_progress(plan.store, plan.run, reads=(plan.parent.version,)) as run:
        return fit_and_judge(plan, run.log, shop.size)[0]


@pytest.mark.journey
def test_noisy_photos_that_find_their_photo_better_publish_and_labels_are_told(
    shop: Living, noisy: str, tmp_path: Path
) -> None:
    twin = shop.copy(tmp_path / "twin")
    plan = plan_upgrade(by_views(twin, views=noisy, pairs=twin.pairs, source=None, num_pairs=None), None, None)
    outcome = run_upgrade(plan, twin.size)
    assert outcome.judged is not None
    result = outcome.judged.result
    assert outcome.published is not None, result.reason
    assert outcome.published.gate == result
    assert result.evidence is EvidenceKind.PSEUDO
    assert result.reason.startswith(
        "evidence: 500 pseudo-queries, each another view of one item, over the whole gallery"
    )
    assert "not a person's query" in result.reason
    other = result.other_task
    assert other is not None
    assert (other.task, other.evidence, other.must_not_fall) == (Task.SIMILAR, EvidenceKind.LABELS, False)
    assert {check.measure for check in other.checks} == {"map", "top1"}
    assert other.sentence.startswith("Finding similar items, which did not decide, by labels")
    assert Store(twin.store.uri).manifest().gate == result


def test_both_tasks_are_judged_and_a_later_attempt_embeds_no_view_again(shop: Living, tmp_path: Path) -> None:
    """Crops made and embedded by hand search the old gallery as the gate says."""
    twin = shop.copy(tmp_path / "twin")
    plan = plan_upgrade(by_views(twin, task=None), None, None)
    result = judged(plan, twin).result
    other = result.other_task
    assert result.evidence is EvidenceKind.PSEUDO
    assert other is not None
    assert (other.task, other.evidence, other.must_not_fall) == (Task.SIMILAR, EvidenceKind.LABELS, True)
    for way in result.ways:
        falls = any(check.margin < 0 for check in (*way.checks, *way.other_checks))
        assert way.clears <= (not falls)

    views = pq.read_table(plan.store.run_uri(plan.run, "pseudo_queries.parquet"))
    ids_Q = views["id"].to_numpy()
    pairs = pq.read_table(plan.store.run_uri(plan.run, "pairs.parquet"))["id"].to_numpy()
    assert not np.isin(ids_Q, pairs[~gate_mask(pairs, 0.2, 0)]).any(), "no item that maps are fitted on"
    source = open_source(GALLERY)
    crops = Crop()(source.read(np.flatnonzero(np.isin(source.ids_N, ids_Q))))
    old_QD = fashion_encoders.old().encode(crops.columns)
    nothing = doing_nothing(old_QD, twin.vectors.old_ND[:START], Metric.IP)
    measured = query_measures(nothing, twin.vectors.ids_N[:START], JudgedQueries.of([[item] for item in crops.ids_N]))
    assert result.agreement[Method.OLD_OLD] == pytest.approx(measured["mrr"].mean(), rel=1e-4)

    made = Pairs.from_table(views)
    refined = made.rows(np.arange(len(ids_Q)) < 10)  # as those of a run for another task may be
    nobody = made.rows(np.zeros(len(ids_Q), dtype=bool))
    with measure_stage(count_nodes) as meter:
        sources = EvidenceSources(
            plan=plan, pairs=nobody, held_out=nobody, refined=refined, size=twin.size, meter=meter
        )
        asked = pseudo_evidence(sources, as_gallery(made)).judged
    assert sorted(asked.relevant_ids_R) == sorted(ids_Q[10:]), "no item that was refined"

    kept = [plan.store.run_uri(plan.run, "pseudo_queries.parquet")]
    written = objects.marks(kept)
    objects.delete([plan.store.run_uri(plan.run, "gate.json")])
    assert judged(plan, twin).result == result
    assert objects.marks(kept) == written, "a view that is embedded again is written again"
    assert plan.run in plan_upgrade(by_views(twin), None, None).akin, (
        "the same views serve the command with another task"
    )


def test_without_labels_both_tasks_wait_for_what_the_new_model_says_of_results(
    adopted: Living, noisy: str, tmp_path: Path
) -> None:
    """Pairs come from a file, so that nothing of the gallery can be embedded but views."""
    (tmp_path / "rows").mkdir()
    for path in adopted.photos.glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["label"]), tmp_path / "rows" / path.name)
    bare = adopted.copy(tmp_path / "bare")
    bare.store = adopted_by_models(tmp_path / "store", tmp_path / "rows")
    from_file = {"pairs": adopted.pairs, "source": None, "num_pairs": None}
    plan = plan_upgrade(by_views(bare, task=None, views=noisy, **from_file), None, None)
    alone = judged(plan, bare).result
    assert (alone.evidence, alone.verdict, alone.other_task) == (EvidenceKind.PSEUDO, Verdict.MORE_EVIDENCE, None)
    assert alone.ways[0].clears
    assert "--task known-item" in alone.advice
    assert "wanted_ids.parquet" in alone.advice
    assert "with --task similar" not in alone.advice

    wanted = pq.read_table(plan.store.run_uri(plan.run, "wanted_ids.parquet"))["id"].to_numpy()
    order = np.argsort(bare.vectors.ids_N)
    new_NW = bare.vectors.new_NW[order[np.searchsorted(bare.vectors.ids_N, wanted, sorter=order)]]
    write_new(Path(plan.store.run_uri(plan.run, "wanted_embeddings.parquet")), wanted, new_NW)
    both = judged(plan, bare).result
    assert both.other_task is not None
    assert (both.other_task.evidence, both.other_task.must_not_fall) == (EvidenceKind.POOLED, True)
    assert "what the new model says of results shows" in both.reason
    assert both.passed is both.ways[0].clears

    known_item = plan_upgrade(by_views(bare, views=noisy, **from_file), None, None)
    told = judged(known_item, bare).result
    assert told.passed
    assert told.other_task is not None
    assert (told.other_task.evidence, told.other_task.must_not_fall) == (EvidenceKind.POOLED, False)
    assert not objects.exists(plan.store.run_uri(known_item.run, "pseudo_queries.parquet")), "embedded once for both"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"views": None}, "no --views"),
        ({"old_encoder": None}, "--views crop is given without --old-encoder"),
        ({"old_encoder": "old-api"}, "--old-encoder 'old-api' is only a name"),
        ({"old_encoder": f"{ENCODERS}:new"}, "--old-encoder.*fashion-new; version 1 has vectors of .*fashion-old"),
        ({"side_encoder": f"{ENCODERS}:old"}, "--side-encoder.*fashion-old; version 1 has vectors of .*fashion-side"),
        ({"side_info": "none"}, "--side-info none leaves it out: leave --side-encoder out"),
        ({"queries": "q.parquet"}, "real queries decide alone"),
        ({"views": "span:30"}, "of kind text"),
        ({"source": None, "num_pairs": None, "pairs": "PAIRS"}, "no --source"),
        (
            {"source": None, "num_pairs": None, "pairs": "PAIRS", "encoder": "new-api", "views": GALLERY},
            "'new-api' is only a name, so it cannot embed --views",
        ),
    ],
)
def test_what_views_lack_is_named_before_ray_starts(shop: Living, changed: dict[str, Any], said: str) -> None:
    if changed.get("pairs"):
        changed = {**changed, "pairs": shop.pairs}
    with pytest.raises(SettingsError, match=said):
        plan_upgrade(by_views(shop, **changed), None, None)


def test_a_version_of_joined_vectors_takes_no_views(shop: Living) -> None:
    settings = by_views(shop)
    plan = plan_upgrade(settings, None, None)
    one = QueryInput(role=QueryRole.OLD, encoder=EncoderRef(name="clip", fingerprint="f"), dimension=6)
    with pytest.raises(SettingsError, match=r"joined of several models' \(clip \(old\)\)"):
        check_pseudo_origin(plan.pseudo, dataclasses.replace(plan.parent, queries=(one,)), settings)


def test_the_plan_says_who_judges_and_counts_what_views_take(shop: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = by_views(shop, side_encoder=None)
    plan = plan_upgrade(settings, None, None)
    without = plan_upgrade(by_views(shop, views=None, old_encoder=None, side_encoder=None), None, None)
    assert plan.forecast.wall_s > without.forecast.wall_s
    assert plan.run != without.run
    notes = plan_report(plan, settings, pricing_of(PricingSettings())).notes
    assert any("pseudo-queries (crop)" in note and "there is no --side-encoder" in note for note in notes)
    monkeypatch.setattr(fashion_encoders.old(), "flops_per_item", 0.0)
    assert "embedding other views of items: encoder 'old'" in plan_upgrade(settings, None, None).forecast.left_out[0]
