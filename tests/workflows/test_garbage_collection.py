"""`gc` on a store that lives: nothing that anybody needs goes, and a deletion becomes complete."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fct_ray.errors import EncoderMismatchError
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.shards.model_directory import load_model
from fct_ray.storage.rollback import roll_back
from fct_ray.workflows.garbage_collection import collect, find_garbage
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.judgement import fit_and_judge, read_judged
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.galleries import read_version
from tests.workflows.living import START, Living


def _holds(store: str, needles: list[bytes]) -> list[str]:
    """Files of the store, hidden ones too, that contain one of the byte strings."""
    files = (path for path in Path(store).rglob("*") if path.is_file())
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.fixture(scope="module")
def grown(adopted: Living, tmp_path_factory: pytest.TempPathFactory) -> Living:
    """A gallery that was upgraded after 100 items were appended, which are copied into the store, and one deleted."""
    living = adopted.copy(tmp_path_factory.mktemp("grown"))
    living.append(START, START + 100)
    living.delete(np.array([START + 1]))
    living.upgrade()
    return living


def test_a_dry_run_deletes_nothing_and_a_collection_leaves_a_whole_store(grown: Living, tmp_path: Path) -> None:
    living = grown.copy(tmp_path)
    published = living.store.manifest()
    files = sorted(str(path) for path in Path(living.store.uri).rglob("*"))
    shown = find_garbage(living.store, keep=1, purge=False)
    assert sorted(str(path) for path in Path(living.store.uri).rglob("*")) == files
    assert collect(living.store, keep=1, purge=False) == shown
    assert set(shown.kept) == {published.version, published.parent}
    for version in shown.kept:
        assert verify_store(VerifySettings(store=living.store.uri, version=version)).problems == ()
    roll_back(living.store, None)
    assert living.store.manifest().encoder.name == "old-api"
    assert find_garbage(living.store, keep=1, purge=False).paths == ()


def test_after_a_purge_no_object_of_the_store_holds_anything_of_a_deleted_item(grown: Living, tmp_path: Path) -> None:
    living, row = grown.copy(tmp_path), START + 7
    shard = living.store.manifest().shards[-1]
    table = read_version(living.store, living.store.manifest())
    new_vector = np.asarray(table["embedding"][table["id"].to_pylist().index(int(living.vectors.ids_N[row]))].as_py())
    needles = [
        living.vectors.old_ND[row].tobytes(),
        living.vectors.side_NS[row].tobytes(),
        new_vector.astype(np.float32).tobytes(),
    ]
    assert len(_holds(living.store.uri, needles)) >= 3, f"in both versions' shards and in an index: {shard.index}"
    living.delete(np.array([row]))
    collect(living.store, keep=5, purge=False)
    assert _holds(living.store.uri, needles), "the parent of CURRENT still holds it, so that one can roll back"
    collect(living.store, keep=5, purge=True)
    assert _holds(living.store.uri, needles) == []
    assert list(Path(living.store.uri).glob("runs/*/pairs.parquet")) == []
    assert verify_store(VerifySettings(store=living.store.uri)).problems == ()


def test_a_reader_that_holds_its_version_searches_it_while_it_is_rolled_away_and_collected(living: Living) -> None:
    living.append(START, START + 10)
    with_lease = open_searcher(living.store.uri, "old-api", hold=True)  # no index: shards are read in every search
    living.delete(np.array([START + 1]))
    living.delete(np.array([START + 2]))
    assert with_lease.manifest.version == 2
    assert collect(living.store, keep=1, purge=True).kept[2] == "in use by a reader of version 2"
    _, found = with_lease.search(living.vectors.old_ND[START + 1 : START + 2], 1)
    assert found[0, 0] == living.vectors.ids_N[START + 1]
    assert not with_lease.is_current()
    with_lease.close()
    assert 2 in collect(living.store, keep=1, purge=True).versions


@pytest.mark.journey
def test_a_reader_in_a_loop_sees_only_whole_versions_and_no_failed_query(living: Living) -> None:
    """Upgrade, rollback, rolling forward, deleting and collecting, all while somebody searches."""
    stop, seen, failures = threading.Event(), set[int](), list[BaseException]()

    def read() -> None:
        by_encoder = {"old-api": living.vectors.old_ND, "new-api": living.vectors.new_NW}
        while not stop.is_set():
            for encoder, vectors in by_encoder.items():
                try:
                    searcher = open_searcher(living.store.uri, encoder, hold=True)
                except EncoderMismatchError:
                    continue  # the other one is right now
                try:
                    scores, found = searcher.search(vectors[:20], 5)
                    assert found.min() >= 0, "every query finds five items"
                    assert np.isin(found, living.vectors.ids_N[:START]).all()
                    assert (np.diff(scores, axis=1) <= 1e-5).all()
                    seen.add(searcher.manifest.version)
                except BaseException as error:  # noqa: BLE001 (the main thread raises it)
                    failures.append(error)
                finally:
                    searcher.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        living.upgrade()
        for _ in range(5):
            roll_back(living.store, 1)
            time.sleep(0.2)
            roll_back(living.store, 2)
            time.sleep(0.2)
        living.delete(np.arange(1000, 1010))
        living.delete(np.arange(2000, 2010))
        collect(living.store, keep=1, purge=True)
        time.sleep(0.5)
    finally:
        stop.set()
        reader.join()
    assert failures == []
    assert {1, 2, 4} <= seen


def test_a_judgement_stands_while_the_model_that_it_chose_is_there(living: Living) -> None:
    plan = living.plan()
    log, gate = RunUsage(plan.store, plan.run), Path(living.store.run_uri(plan.run, "gate.json"))
    judged, _ = fit_and_judge(plan, log, living.size)
    written = gate.read_bytes()
    assert fit_and_judge(plan, log, living.size)[0] == judged
    assert gate.read_bytes() == written
    gone = living.store.run_uri(plan.run, "fit/h-0123456789ab")
    gate.write_bytes(written.replace(judged.uri.encode(), gone.encode()))
    found = read_judged(plan)
    assert found is not None
    assert (found.result, found.uri, found.fitted) == (judged.result, gone, {}), "what was measured stays known"
    assert fit_and_judge(plan, log, living.size)[0] == judged


@pytest.mark.slow
def test_an_upgrade_that_was_interrupted_after_its_gate_fits_again_after_a_collection(living: Living) -> None:
    settings = dataclasses.replace(
        living.settings(), transformation=None, index="Flat", fit=TransformationFit(inner=32, epochs=1)
    )
    plan = plan_upgrade(settings, None, None)
    log = RunUsage(plan.store, plan.run)
    judged, _ = fit_and_judge(plan, log, living.size)
    spent = log.used()["fit"]
    collect(living.store, keep=1, purge=False)
    assert not Path(judged.uri, "model.json").exists()
    assert Path(living.store.run_uri(plan.run, "gate.json")).exists()
    outcome = run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert outcome.plan.run == plan.run
    assert outcome.published is not None
    assert outcome.stages["fit"].flops == pytest.approx(2 * spent.flops), "both fits were paid for"
    collect(living.store, keep=1, purge=False)
    again = run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert again.published == outcome.published
    assert again.judged is not None
    assert set(again.judged.fitted) == {judged.result.chosen}, "only what was published is kept"
    load_model(again.judged.uri)
