"""Appending and deleting make new versions of the same models; upgrades catch up with both."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import faiss
import numpy as np
import pytest

from fct_ray.errors import DataError, EncoderMismatchError, FormatError, LeaseHeldError, PublishConflictError
from fct_ray.kinds import Precision
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.shards.model_directory import load_model
from fct_ray.storage import leases, objects
from fct_ray.values import Manifest
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.judgement import fit_and_judge
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed
from tests.galleries import read_version, write_rows
from tests.workflows.living import START, Living


def _ids(living: Living, manifest: Manifest) -> np.ndarray:
    ids: np.ndarray = read_version(living.store, manifest)["id"].to_numpy()
    return ids


def _check_index(living: Living, manifest: Manifest) -> None:
    """Every shard's index holds exactly the shard's ids."""
    for record in manifest.shards:
        assert record.index is not None
        table = living.store.read(record.index)
        index = faiss.deserialize_index(np.frombuffer(table, dtype=np.uint8))
        assert index.ntotal == record.rows


def test_appended_items_are_found_and_old_shards_stay_where_they_lie(living: Living) -> None:
    before = living.store.manifest()
    after = living.append(START, START + 300)
    assert (after.version, after.parent, after.num_rows) == (2, 1, START + 300)
    assert after.shards[:-1] == before.shards
    np.testing.assert_array_equal(_ids(living, after), np.sort(living.vectors.ids_N[: START + 300]))
    scores, found = open_searcher(living.store.uri, "old-api").search(living.vectors.old_ND[START : START + 5], 3)
    assert all(living.vectors.ids_N[START + row] in found[row] for row in range(5))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)


def test_deleted_items_are_gone_with_all_their_columns_and_the_others_are_untouched(living: Living) -> None:
    before = read_version(living.store, living.store.manifest()).to_pydict()
    rows = np.concatenate([np.arange(0, 800), np.arange(1000, 1003)])  # all of shard 0, three rows of shard 1
    after = living.delete(rows)
    assert [record.shard for record in after.shards] == [1, 2, 3, 4]
    table = read_version(living.store, after).to_pydict()
    kept = ~np.isin(before["id"], living.vectors.ids_N[rows])
    for name, values in before.items():
        assert table[name] == [value for value, keep in zip(values, kept, strict=True) if keep], name
    untouched = [record for record in after.shards if record.shard != 1]
    assert untouched == list(living.store.manifest(1).shards[2:])


def test_the_same_edit_again_changes_nothing(living: Living) -> None:
    published = living.append(START, START + 10)
    path = str(living.directory / "new-1.parquet")
    again = append(AppendSettings(store=living.store.uri, encoder="old-api", embeddings=path), living.size)
    assert (again.published, again.changed) == (published, 0)


def test_what_cannot_join_or_is_not_there_is_refused_and_nothing_changes(living: Living, tmp_path: Path) -> None:
    before = objects.read_bytes(living.store.uri_of("CURRENT.json"))
    with pytest.raises(DataError, match="in the gallery already"):
        living.append(START - 1, START + 10)
    with pytest.raises(DataError, match="1 of 2 ids are not in version 1"):
        living.delete(np.array([0, START]))
    with pytest.raises(DataError, match="all 4,000 items"):
        living.delete(np.arange(START))
    new = str(write_rows(tmp_path / "x.parquet", living.vectors, np.arange(START, START + 5)))
    with pytest.raises(EncoderMismatchError, match=r"'new-api'.*'old-api'"):
        append(AppendSettings(store=living.store.uri, encoder="new-api", embeddings=new), living.size)
    with pytest.raises(FormatError, match="new items need embeddings and side-information of the same models"):
        append(AppendSettings(store=living.store.uri, encoder="old-api", embeddings=living.pairs), living.size)
    assert objects.read_bytes(living.store.uri_of("CURRENT.json")) == before


@pytest.mark.journey
def test_an_upgrade_catches_up_with_what_was_appended_and_deleted_since_it_was_planned(living: Living) -> None:
    exact = dataclasses.replace(living.settings(), precision=Precision.FLOAT32)  # also where bfloat16 is faster
    plan = plan_upgrade(exact, None, None)
    living.append(START, START + 500)
    gone = np.concatenate([np.arange(11, 31, 2), np.arange(START + 5, START + 9)])  # none of them is a pair
    head = living.delete(gone)
    outcome = living.upgrade(plan)
    published = outcome.published
    assert published is not None
    assert (published.parent, published.version) == (head.version, head.version + 2)
    vectors, rows = living.vectors, np.setdiff1d(np.arange(START + 500), gone)
    table = read_version(living.store, published)
    np.testing.assert_array_equal(table["id"].to_numpy(), np.sort(vectors.ids_N[rows]))
    _check_index(living, published)
    by_id = rows[np.argsort(vectors.ids_N[rows])]
    runner = TransformRunner(load_model(living.h), batch_rows=4096)
    expected_NW, _ = runner.run(vectors.old_ND[by_id], vectors.side_NS[by_id])
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected_NW, atol=1e-6)


@pytest.mark.journey
def test_an_interrupted_upgrade_resumes_after_edits_and_keeps_its_finished_shards(living: Living) -> None:
    plan = living.plan()
    stream = TransformStream(
        store=living.store, parent=plan.parent, run=plan.run, transformation_uri=living.h, use_side=True,
        dimension=48, metric=plan.space.metric, index_factory="IVF16,Flat", seed=0, batch_rows=4096,
    )  # fmt: skip
    stream_transformed(stream, plan.parent, pool=living.settings().pool, size=living.size)
    objects.write_bytes(living.store.run_uri(plan.run, "usage/pairs-0000.json"), b'{"wall_s": 1.0}')  # it had begun
    finished = {receipt.record.shard: receipt for receipt in living.store.ledger(plan.run)}
    living.delete(np.array([0]))  # of shard 0
    outcome = living.upgrade()
    published = outcome.published
    assert published is not None
    assert published.run == plan.run
    kept = [record for record in published.shards if record.shard != 0]
    assert kept == [finished[record.shard].record for record in kept]
    assert len(_ids(living, published)) == START - 1
    flops_per_row = finished[0].usage.flops / finished[0].record.rows
    transformed = START + START + finished[0].record.rows - 1  # to train the index, to stream, and shard 0 once more
    assert outcome.stages["stream"].flops == flops_per_row * transformed


@pytest.mark.journey
def test_an_upgrade_killed_just_before_current_moved_is_finished_from_what_lies_there(living: Living) -> None:
    plan, current = living.plan(), Path(living.store.uri_of("CURRENT.json"))
    living.append(START, START + 100)
    before = current.read_bytes()
    published = living.upgrade(plan).published
    receipts = living.store.ledger(plan.run)
    current.write_bytes(before)  # as if it had been killed there
    again = living.upgrade()
    assert (again.plan.run, living.store.manifest()) == (plan.run, published)
    assert living.store.ledger(plan.run) == receipts, "no shard may be done again"


def test_an_upgrade_is_found_finished_also_after_items_were_deleted_from_it(upgraded: Living, tmp_path: Path) -> None:
    living = upgraded.copy(tmp_path)
    published = living.store.manifest()
    after = living.delete(np.arange(1, 40, 2))
    again = living.upgrade()
    assert (again.plan.finished, again.published) == (published, published)
    assert living.store.manifest() == after


@pytest.mark.journey
def test_a_fit_that_a_run_killed_at_the_gate_had_finished_is_found_again_and_counts_once(living: Living) -> None:
    settings = dataclasses.replace(
        living.settings(), transformation=None, index="Flat", fit=TransformationFit(inner=32, epochs=2)
    )
    plan = plan_upgrade(settings, None, None)
    log = RunUsage(plan.store, plan.run)
    judged, _ = fit_and_judge(plan, log, living.size)
    before = log.used()["fit"]
    Path(living.store.run_uri(plan.run, "gate.json")).unlink()
    again, _ = fit_and_judge(plan, log, living.size)
    after = log.used()["fit"]
    assert (again.fitted, again.fit_reused) == (judged.fitted, True)
    assert (after.flops, after.rows, before.flops > 0) == (before.flops, before.rows, True)


def test_of_two_upgrades_one_publishes_and_the_other_stops_and_overwrites_nothing(
    living: Living, upgraded: Living, tmp_path: Path
) -> None:
    winner = upgraded.copy(tmp_path / "winner")
    late = dataclasses.replace(living.plan(), run="upgrade-late", store=winner.store)
    published, before = winner.store.manifest(), objects.read_bytes(winner.store.uri_of("CURRENT.json"))
    with pytest.raises(
        PublishConflictError, match=rf"version 2 \(encoder new-api, run {published.run}\) was published"
    ):
        winner.upgrade(late)
    assert objects.read_bytes(winner.store.uri_of("CURRENT.json")) == before
    assert winner.store.manifest() == published


def test_a_second_driver_of_the_same_run_is_refused(living: Living) -> None:
    plan = living.plan()
    with leases.take(living.store, plan.run, plan.run), pytest.raises(LeaseHeldError, match=plan.run):
        living.upgrade(plan)


def test_items_of_the_old_encoder_are_refused_after_an_upgrade_and_deletions_go_on(
    upgraded: Living, tmp_path: Path
) -> None:
    living = upgraded.copy(tmp_path)
    published = living.store.manifest()
    with pytest.raises(EncoderMismatchError, match="upgraded meanwhile"):
        living.append(START, START + 10)
    after = living.delete(np.arange(50))
    assert after.encoder == published.encoder
    assert after.transformation == published.transformation
    _check_index(living, after)
    searcher = open_searcher(living.store.uri, "new-api")
    assert not np.isin(searcher.search(living.vectors.new_NW[:50], 10)[1], living.vectors.ids_N[:50]).any()
