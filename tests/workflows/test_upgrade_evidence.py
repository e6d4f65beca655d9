"""What decides an upgrade: real queries, labels, what the new model says of results, or held-out pairs alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FctRayError
from fct_ray.kinds import Accept, EvidenceKind, Method, Precision, Task, Verdict, WayChoice
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade import candidates
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.workflows.asked import Asked, adopted_rows, by_queries, noisy_photos, taken, unit, write_new
from tests.workflows.living import START, Living


@pytest.fixture(scope="module")
def asked(adopted: Living) -> Asked:
    return noisy_photos(adopted)


@pytest.fixture
def unlabelled(living: Living, tmp_path: Path) -> Living:
    """The same gallery, whose items have no labels."""
    for path in sorted(living.photos.glob("*.parquet")):
        target = tmp_path / "bare" / path.name
        target.parent.mkdir(exist_ok=True)
        pq.write_table(pq.read_table(path).drop_columns(["label"]), target)
    bare = living.copy(tmp_path / "other")
    bare.store = type(living.store)(str(tmp_path / "unlabelled"))
    run_adopt(plan_adopt(AdoptSettings(store=bare.store.uri, embeddings=str(tmp_path / "bare"), encoder="old-api")))
    return bare


def _by_h(living: Living, **changed: Any) -> UpgradeSettings:
    """An upgrade by the linear map that is given: nothing is fitted."""
    return dataclasses.replace(living.settings(), **{"accept": Accept.PROVEN, **changed})


def _run(settings: UpgradeSettings, living: Living) -> UpgradeOutcome:
    return run_upgrade(plan_upgrade(settings, None, None), living.size)


def _new_of(living: Living, ids: np.ndarray) -> np.ndarray:
    order = np.argsort(living.vectors.ids_N)
    return living.vectors.new_NW[order[np.searchsorted(living.vectors.ids_N, ids, sorter=order)]]


def test_where_real_queries_lose_nothing_is_published_and_the_old_model_stays(
    living: Living, asked: Asked, tmp_path: Path
) -> None:
    """Every query looks for what the old vectors find first: no way can be better."""
    old_GD = living.vectors.old_ND[:START]
    first_Q = living.vectors.ids_N[(asked.old_QD @ old_GD.T).argmax(axis=1)]
    content = dataclasses.replace(asked, relevant_Q=first_Q)
    before = living.store.current()
    outcome = _run(by_queries(living, content.write(tmp_path / "q.parquet")), living)
    assert outcome.published is None
    assert living.store.current() == before
    assert outcome.judged is not None
    result = outcome.judged.result
    assert result.evidence is EvidenceKind.QUERIES
    assert result.verdict is Verdict.KEEP
    assert "real queries" in result.reason
    assert result.agreement[Method.OLD_OLD] == pytest.approx(1.0, abs=0.02)


def test_real_queries_decide_also_where_agreement_among_pairs_is_high(
    living: Living, asked: Asked, tmp_path: Path
) -> None:
    """The story behind the gate: labels and pairs praise h, and queries for one known photo lose by it."""
    other = living.copy(tmp_path / "again")
    praised = _run(_by_h(living, task=Task.SIMILAR), living)
    assert praised.published is not None
    blurred = dataclasses.replace(asked, new_QW=np.roll(asked.new_QW, 1, axis=0))  # the new model knows no single photo
    refused = _run(_by_h(other, queries=blurred.write(tmp_path / "q.parquet")), other)
    assert refused.published is None
    assert refused.judged is not None
    told = refused.judged.result.other_task
    assert told is not None
    assert (told.task, told.evidence, told.must_not_fall) == (Task.SIMILAR, EvidenceKind.LABELS, False)
    assert all(check.passed for check in told.checks), "labels praise it and decide nothing"


def test_where_only_the_new_model_is_better_a_backfill_is_advised(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new see halves that have nothing to do with each other; the queries are of the new one's half.

    All that the queries look for are pairs: a correction that kept them as they are would find them, and nothing else.
    """
    monkeypatch.setattr(candidates, "network_is_promising", lambda *_: False)  # Ray Train takes long to start
    rng = np.random.default_rng(0)
    rows, dimension = 2000, 12
    old_GD, new_GW = (unit(rng.normal(size=(rows, dimension))) for _ in range(2))
    store = adopted_rows(tmp_path, living, old_GD)
    paired = rng.permutation(rows)[:800]
    write_new(tmp_path / "pairs.parquet", paired, new_GW[paired])
    relevant = rng.permutation(paired)[:300]
    queries = Asked(
        relevant_Q=relevant,
        old_QD=unit(old_GD[relevant] + rng.normal(0, 0.4, (300, dimension))),
        new_QW=unit(new_GW[relevant] + rng.normal(0, 0.1, (300, dimension))),
        side_QS=old_GD[relevant],
    ).write(tmp_path / "q.parquet", ("old", "new"))
    outcome = _run(
        dataclasses.replace(
            by_queries(store, queries, WayChoice.AUTO), pairs=str(tmp_path / "pairs.parquet"), index="Flat"
        ),
        store,
    )
    assert outcome.judged is not None
    result = outcome.judged.result
    assert outcome.published is None
    assert result.verdict is Verdict.BACKFILL, result.reason
    assert result.new_model is not None
    assert result.new_model.margin_low > 0
    assert "fct-ray backfill" in result.advice


def test_labels_show_that_similar_items_are_found_and_cannot_show_more(living: Living) -> None:
    refused = _run(_by_h(living), living)
    assert refused.published is None
    assert refused.judged is not None
    result = refused.judged.result
    assert (result.evidence, result.verdict) == (EvidenceKind.LABELS, Verdict.MORE_EVIDENCE)
    assert "--task similar" in result.advice
    assert "--queries" in result.advice
    published = _run(_by_h(living, task=Task.SIMILAR), living).published
    assert published is not None
    assert published.gate is not None
    assert published.gate.evidence is EvidenceKind.LABELS


def test_pairs_alone_are_provisional_and_embeddings_of_what_is_returned_decide(unlabelled: Living) -> None:
    settings = _by_h(unlabelled, task=Task.SIMILAR)
    plan = plan_upgrade(settings, None, None)
    refused = run_upgrade(plan, unlabelled.size)
    assert refused.published is None
    assert refused.judged is not None
    result = refused.judged.result
    assert (result.evidence, result.verdict) == (EvidenceKind.HELD_OUT, Verdict.MORE_EVIDENCE)
    assert "4,000" in result.reason
    wanted = pq.read_table(unlabelled.store.run_uri(plan.run, "wanted_ids.parquet"))["id"].to_numpy()
    assert 0 < len(wanted) < START
    brought = unlabelled.store.run_uri(plan.run, "wanted_embeddings.parquet")
    assert brought in result.advice
    write_new(Path(brought), wanted, _new_of(unlabelled, wanted))
    published = _run(settings, unlabelled).published
    assert published is not None
    assert published.gate is not None
    assert published.gate.evidence is EvidenceKind.POOLED
    assert published.run == plan.run


def test_what_was_brought_for_both_tasks_counts_when_the_task_is_named(unlabelled: Living) -> None:
    """The refusal asks for embeddings and for --task similar; a user who gives both gets a judgement by both."""
    plan = plan_upgrade(_by_h(unlabelled), None, None)
    assert run_upgrade(plan, unlabelled.size).published is None
    wanted = pq.read_table(unlabelled.store.run_uri(plan.run, "wanted_ids.parquet"))["id"].to_numpy()
    brought = Path(unlabelled.store.run_uri(plan.run, "wanted_embeddings.parquet"))
    write_new(brought, wanted, _new_of(unlabelled, wanted))
    still = _run(_by_h(unlabelled), unlabelled)
    assert still.judged is not None
    assert (still.judged.result.evidence, still.published) == (EvidenceKind.POOLED, None)
    published = _run(_by_h(unlabelled, task=Task.SIMILAR), unlabelled).published
    assert published is not None
    assert published.gate is not None
    assert (published.gate.evidence, published.gate.task) == (EvidenceKind.POOLED, Task.SIMILAR)


def test_held_out_pairs_publish_where_that_is_accepted_by_name(unlabelled: Living) -> None:
    published = _run(_by_h(unlabelled, accept=Accept.PROVISIONAL), unlabelled).published
    assert published is not None
    assert published.gate is not None
    assert published.gate.evidence is EvidenceKind.HELD_OUT
    assert "provisional" in published.gate.reason
    assert "accepted as provisional" in published.gate.advice


@pytest.mark.parametrize("lacking", ["one", "all but one"])
def test_embeddings_of_some_of_what_is_wanted_ask_for_the_rest(unlabelled: Living, lacking: str) -> None:
    settings = _by_h(unlabelled, task=Task.SIMILAR)
    plan = plan_upgrade(settings, None, None)
    run_upgrade(plan, unlabelled.size)
    uri = unlabelled.store.run_uri(plan.run, "wanted_ids.parquet")
    wanted = pq.read_table(uri)["id"].to_numpy()
    some = wanted[1:] if lacking == "one" else wanted[:1]
    write_new(Path(unlabelled.store.run_uri(plan.run, "wanted_embeddings.parquet")), some, _new_of(unlabelled, some))
    again = _run(settings, unlabelled)
    assert again.published is None
    np.testing.assert_array_equal(pq.read_table(uri)["id"].to_numpy(), np.setdiff1d(wanted, some))


def test_wanted_embeddings_of_another_dimension_are_refused(unlabelled: Living) -> None:
    settings = _by_h(unlabelled, task=Task.SIMILAR)
    plan = plan_upgrade(settings, None, None)
    run_upgrade(plan, unlabelled.size)
    wanted = pq.read_table(unlabelled.store.run_uri(plan.run, "wanted_ids.parquet"))["id"].to_numpy()
    brought = Path(unlabelled.store.run_uri(plan.run, "wanted_embeddings.parquet"))
    write_new(brought, wanted, _new_of(unlabelled, wanted)[:, :7])
    with pytest.raises(FctRayError, match=r"wanted_embeddings.*7.*48"):
        _run(settings, unlabelled)


def test_a_pooled_judgement_in_another_precision_needs_no_more_embeddings(unlabelled: Living) -> None:
    """In bfloat16 a way returns other items; they count as not found, and the loss is told."""
    settings = _by_h(unlabelled, task=Task.SIMILAR, precision=Precision.BFLOAT16)
    plan = plan_upgrade(settings, None, None)
    run_upgrade(plan, unlabelled.size)
    wanted = pq.read_table(unlabelled.store.run_uri(plan.run, "wanted_ids.parquet"))["id"].to_numpy()
    brought = Path(unlabelled.store.run_uri(plan.run, "wanted_embeddings.parquet"))
    write_new(brought, wanted, _new_of(unlabelled, wanted))
    published = _run(settings, unlabelled).published
    assert published is not None
    assert published.gate is not None
    assert published.gate.evidence is EvidenceKind.POOLED
    assert published.gate.precision_loss is not None
    assert 0 <= published.gate.precision_loss < 0.1


def _broken(name: str, value: Callable[[Asked], np.ndarray]) -> Callable[[Asked], Asked]:
    return lambda asked: dataclasses.replace(asked, **{name: value(asked)})


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        (lambda asked: asked, ("new", "side"), "no column `old`"),
        (_broken("old_QD", lambda asked: asked.old_QD[:, :5]), ("old", "new"), "`old` has dimension 5; want 6"),
        (_broken("new_QW", lambda asked: asked.new_QW[:, :5]), ("old", "new"), "`new` has dimension 5; want 48"),
        (_broken("side_QS", lambda asked: asked.old_QD), ("old", "side"), "`side` has dimension 6; want 24"),
        (lambda asked: taken(asked, np.arange(29)), ("old", "new"), "29 queries; want at least 30"),
        (_broken("relevant_Q", lambda asked: asked.relevant_Q + 10**9), ("old", "new"), "not in the store"),
    ],
    ids=["no old", "old dimension", "new dimension", "side dimension", "too few", "foreign ids"],
)
def test_queries_that_do_not_fit_are_refused_before_ray_starts(
    adopted: Living,
    asked: Asked,
    tmp_path: Path,
    change: Callable[[Asked], Asked],
    columns: tuple[str, ...],
    message: str,
) -> None:
    queries = change(asked).write(tmp_path / "q.parquet", columns)
    with pytest.raises(FctRayError, match=message) as refused:
        plan_upgrade(by_queries(adopted, queries), None, None)
    assert "q.parquet" in str(refused.value)


def test_relevant_items_that_were_deleted_are_refused_by_name(living: Living, asked: Asked, tmp_path: Path) -> None:
    """Their ids lie among the others', so that only reading the gallery shows it."""
    gone = np.flatnonzero(np.isin(living.vectors.ids_N, asked.relevant_Q[5:8]))
    living.delete(gone)
    with pytest.raises(FctRayError, match=r"3 of 300.*not in the store") as refused:
        _run(by_queries(living, asked.write(tmp_path / "q.parquet")), living)
    assert str(asked.relevant_Q[5]) in str(refused.value)
    assert living.store.manifest().version == 2
