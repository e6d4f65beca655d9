"""`--refine-budget`: photos that maps are uncertain of get true new vectors; the version keeps them where that is better."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.errors import SettingsError
from fct_ray.kinds import Provenance, Task, WayChoice
from fct_ray.models.uncertainty import Uncertainty, highest
from fct_ray.report.outcomes import plan_report, upgrade_report
from fct_ray.shards.model_directory import load_model
from fct_ray.shards.uncertain_rows import keys_of
from fct_ray.storage.store import Store
from fct_ray.storage.true_vector_files import TrueVectorFile
from fct_ray.workflows import chosen_items
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.garbage_collection import collect
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade import candidates
from fct_ray.workflows.upgrade import pairs as pairs_stage
from fct_ray.workflows.upgrade import refine as refine_stage
from fct_ray.workflows.upgrade import run as upgrade_run
from fct_ray.workflows.upgrade.judgement import read_judged
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.refine import refined_pairs
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.workflows.asked import QUICK_FIT
from tests.workflows.living import START, Living

NEW = "tests.jobs.fashion_encoders:new"
NUM_PAIRS, NUM_REFINED = 500, 400


class _KilledError(Exception):
    pass


def _killed(*_: object, **__: object) -> Any:
    raise _KilledError


def _settings(living: Living, **changed: Any) -> UpgradeSettings:
    asked: dict[str, Any] = {
        "encoder": NEW,
        "pairs": None,
        "source": f"fashion-mnist:gallery?limit={START}",
        "num_pairs": NUM_PAIRS,
        "transformation": None,
        "task": Task.SIMILAR,
        "way": WayChoice.H,
        "refine_budget": "10%",
        **QUICK_FIT,
    }
    return dataclasses.replace(living.settings(), **{**asked, **changed})


def _without_labels(living: Living, directory: Path) -> Living:
    """The same photos, of which the new model alone can say what is similar."""
    twin = living.copy(directory)
    twin.store = Store(str(directory / "unlabelled"))
    (directory / "rows").mkdir()
    for path in sorted(living.photos.iterdir()):
        pq.write_table(pq.read_table(path).drop_columns(["label"]), directory / "rows" / path.name)
    settings = AdoptSettings(store=twin.store.uri, embeddings=str(directory / "rows"), encoder="old-api")
    run_adopt(plan_adopt(settings))
    return twin


@dataclasses.dataclass(frozen=True)
class Done:
    """A gallery that was upgraded in three attempts, and what each of them embedded."""

    living: Living
    outcome: UpgradeOutcome
    embedded: list[list[int]]


@pytest.fixture(scope="module")
def done(adopted: Living, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Killed while the chosen items are embedded, and again before anything is streamed; the third attempt publishes."""
    living, embedded = _without_labels(adopted, tmp_path_factory.mktemp("refined")), list[list[int]]()
    encode = chosen_items.encode_items

    def counted(source: Any, uris: Any, positions_N: np.ndarray, **rest: Any) -> Any:
        embedded[-1] += source.ids_N[positions_N].tolist()
        return encode(source, uris, positions_N, **rest)

    outcome = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "network_is_promising", lambda *_: False)
        for stage in (pairs_stage, refine_stage):
            patch.setattr(stage, "encode_items", counted)
        for kill in ((refine_stage, "encode_items"), (upgrade_run, "stream_transformed"), None):
            embedded.append([])
            with patch.context() as once:
                if kill is None:
                    outcome = run_upgrade(plan_upgrade(_settings(living), 0.1, None), living.size)
                    continue
                once.setattr(*kill, _killed)
                with pytest.raises(_KilledError):
                    run_upgrade(plan_upgrade(_settings(living), 0.1, None), living.size)
    assert outcome is not None
    return Done(living, outcome, embedded)


def _document(done: Done, name: str) -> Path:
    return Path(done.living.store.uri) / "runs" / done.outcome.plan.run / name


@pytest.mark.journey
def test_nothing_is_embedded_twice_and_no_pair_is_refined(done: Done) -> None:
    pairs, refined, nothing = (set(ids) for ids in done.embedded)
    assert (len(pairs), len(refined), len(nothing)) == (NUM_PAIRS, NUM_REFINED, 0)
    assert len(done.embedded[1]) == NUM_REFINED
    assert not pairs & refined


@pytest.mark.journey
def test_they_are_drawn_from_the_whole_gallery_by_uncertainty(done: Done) -> None:
    """By brute force over all photos at once."""
    vectors = done.living.vectors
    ids, old, side = vectors.ids_N[:START], vectors.old_ND[:START], vectors.side_NS[:START]
    is_pair = np.isin(ids, done.embedded[0])
    order = np.flatnonzero(is_pair)[np.argsort(ids[is_pair])]
    uncertainty = Uncertainty(old[order], side[order], seed=0)
    keys = keys_of(ids, old, side, uncertainty, seed=0)
    assert sorted(done.embedded[1]) == highest(ids[~is_pair], keys[~is_pair], NUM_REFINED).tolist()
    variance, drawn = uncertainty(old, side), np.isin(ids, done.embedded[1])
    assert variance[drawn].mean() > variance[~drawn & ~is_pair].mean()


@pytest.mark.journey
def test_mixed_shards_are_published_and_their_records_say_so(done: Done) -> None:
    published = done.outcome.published
    assert published is not None, done.outcome.judged
    assert published.gate is not None
    assert (
        "true vectors kept" in {way.variant for way in published.gate.ways if way.method is published.gate.chosen}.pop()
    )
    assert {record.provenance for record in published.shards} == {Provenance.MIXED}
    counts = [record.counts for record in published.shards]
    assert sum(count["embedded"] for count in counts) == NUM_PAIRS + NUM_REFINED
    assert sum(sum(count.values()) for count in counts) == START


@pytest.mark.journey
def test_the_true_vectors_are_those_of_the_new_encoder_and_are_found_by_themselves(done: Done) -> None:
    living = done.living
    rows = np.flatnonzero(np.isin(living.vectors.ids_N[:START], done.embedded[1]))
    new_QW = living.vectors.new_NW[rows]
    _, ids_QK = open_searcher(living.store.uri, NEW).search(new_QW, k=1, nprobe=16)
    assert (ids_QK[:, 0] == living.vectors.ids_N[rows]).mean() > 0.99


@pytest.mark.journey
def test_the_version_is_whole_and_its_vectors_can_be_made_again(done: Done) -> None:
    seen = verify_store(VerifySettings(store=done.living.store.uri, recompute=5))
    assert seen.problems == ()
    assert seen.num_recomputed == 5


@pytest.mark.journey
def test_the_same_command_finds_it_finished(done: Done) -> None:
    again = plan_upgrade(_settings(done.living), 0.1, None)
    assert again.finished is not None
    assert again.num_to_refine == NUM_REFINED
    outcome = run_upgrade(again, done.living.size)
    assert outcome.published == done.outcome.published
    assert outcome.judged is not None
    assert outcome.judged.num_refined == NUM_REFINED


@pytest.mark.journey
def test_the_report_says_how_many_what_it_cost_and_which_share_is_new(done: Done) -> None:
    report = upgrade_report(done.outcome, done.outcome.plan.settings, pricing_of(PricingSettings()))
    (said,) = [note for note in report.notes if note.startswith("refined")]
    assert "refined: 400 items" in said
    assert "stage refine: " in said
    assert "900 vectors, 22.50% of the gallery" in said
    assert report.stages["refine"].rows >= NUM_REFINED
    assert list(report.stages)[:2] == ["pairs", "refine"]


@pytest.mark.journey
def test_those_of_all_pairs_and_refined_items_lie_beside_the_chosen_model_alone(done: Done) -> None:
    published = done.outcome.published
    assert published is not None
    uri = done.living.store.find_transformation(published)
    assert uri is not None
    assert load_model(uri).document.true_vectors_sha256 is not None
    kept = TrueVectorFile(f"{uri}/true_vectors.parquet")
    assert kept.ids_T.tolist() == sorted(done.embedded[0] + done.embedded[1])
    assert done.outcome.judged is not None
    with_it = {m for m, at in done.outcome.judged.fitted.items() if load_model(at).document.true_vectors_sha256}
    assert with_it == {done.outcome.judged.result.chosen}, "the other ways are kept without"


@pytest.mark.journey
def test_the_same_upgrade_for_another_task_takes_what_was_embedded(done: Done) -> None:
    plan = done.outcome.plan
    other = dataclasses.replace(plan, run="upgrade-for-another-task", akin=(plan.run,))
    pairs = Pairs.from_table(pq.read_table(_document(done, "pairs.parquet")))
    refined = refined_pairs(other, pairs, RunUsage(plan.store, other.run), done.living.size)
    assert refined is not None
    assert sorted(refined.ids_P) == sorted(done.embedded[1])
    assert Path(plan.store.run_uri(other.run, "refined.parquet")).exists(), "the run it comes from may be collected"


@pytest.mark.journey
def test_a_model_whose_true_vectors_were_purged_is_judged_again(done: Done) -> None:
    plan = done.outcome.plan
    judged = read_judged(plan)
    assert judged is not None
    assert judged.uri in judged.fitted.values()
    files = list(Path(plan.store.uri).rglob("true_vectors.parquet"))
    assert len(files) == 2, "with the run, and among the models of the store"
    try:
        for file in files:
            file.rename(file.with_suffix(".away"))
        again = read_judged(plan)
        assert again is not None
        assert judged.result.chosen not in again.fitted
    finally:
        for file in files:
            file.with_suffix(".away").rename(file)


@pytest.mark.journey
def test_deleting_and_collecting_keep_the_counts_and_the_file(done: Done, tmp_path: Path) -> None:
    living = done.living.copy(tmp_path)
    refined = np.flatnonzero(np.isin(living.vectors.ids_N[:START], done.embedded[1][:10]))
    after = living.delete(refined)
    assert sum(record.counts["embedded"] for record in after.shards) == NUM_PAIRS + NUM_REFINED - 10
    assert sum(record.counts["transformed"] for record in after.shards) == START - NUM_PAIRS - NUM_REFINED
    collect(living.store, keep=1, purge=False)
    assert verify_store(VerifySettings(store=living.store.uri, recompute=5)).problems == ()
    uri = living.store.find_transformation(after)
    path = Path(str(uri)) / "true_vectors.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (problem, *_) = verify_store(VerifySettings(store=living.store.uri)).problems
    assert "true_vectors.parquet" in problem


def test_planning_says_how_many_and_counts_embedding_them(living: Living) -> None:
    settings = _settings(living)
    plan = plan_upgrade(settings, 0.1, None)
    without = plan_upgrade(dataclasses.replace(settings, refine_budget=None), 0.1, None)
    assert plan.num_to_refine == NUM_REFINED
    assert plan.run != without.run
    assert plan.forecast.wall_s > without.forecast.wall_s
    assert plan.run == plan_upgrade(dataclasses.replace(settings, refine_budget="10.0 %"), 0.1, None).run
    notes = plan_report(plan, settings, pricing_of(PricingSettings())).notes
    assert any("400 items, 10.00% of the gallery" in note for note in notes)
    assert plan_upgrade(dataclasses.replace(settings, refine_budget="100 node-h"), None, None).num_to_refine == 3500


@pytest.mark.parametrize(
    ("changed", "price", "wanted"),
    [
        ({"refine_budget": "some"}, 0.1, "--refine-budget is 'some'.*5%"),
        ({"refine_budget": "$20"}, None, "no price"),
        ({"way": WayChoice.NOTHING_FITTED}, 0.1, "uses no embedding of the new model"),
        ({"num_pairs": START}, 0.1, "all 4,000 items of the gallery are pairs"),
        ({"refine_budget": "$0.000001"}, 0.1, "not enough for one item"),
    ],
)
def test_a_budget_that_cannot_be_used_is_refused_in_planning(
    living: Living, changed: dict[str, Any], price: float | None, wanted: str
) -> None:
    with pytest.raises(SettingsError, match=wanted):
        plan_upgrade(_settings(living, **changed), price, None)


def test_a_budget_needs_raw_items(living: Living) -> None:
    settings = dataclasses.replace(living.settings(), transformation=None, refine_budget="5%")
    with pytest.raises(SettingsError, match=r"--pairs.*brings none.*--source"):
        plan_upgrade(settings, 0.1, None)
