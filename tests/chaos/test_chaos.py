"""A short seeded selection of `make chaos`, and proof that its checks find what they look for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.chaos import checks
from tests.chaos.decisions import FLAT, Stage, Victim, episode
from tests.chaos.journal import Journal
from tests.chaos.nodes import Nodes, cluster_of_nodes
from tests.chaos.play import play
from tests.chaos.scenes import NUM_ROWS, Scene

SEED = 0
ACTOR_DRIVER_NODE = 151
"""The episode that kills an actor, the driver and a node while shards stream."""
WRITER_AND_DRIVER = 537
"""The episode that kills both while one upgrades and the other edits."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with cluster_of_nodes() as started:
        yield started


@pytest.fixture(scope="module")
def scene(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("chaos"), nodes.address)


@pytest.mark.timeout(900)
@pytest.mark.journey
def test_an_upgrade_whose_actor_driver_and_node_are_killed_ends_with_the_bytes_of_an_undisturbed_one(
    nodes: Nodes, scene: Scene, tmp_path: Path
) -> None:
    journal = Journal(None)
    play(episode(SEED, ACTOR_DRIVER_NODE), scene, nodes, tmp_path / "episode", journal, most_kills=3)
    assert journal.problems() == []
    assert [line["victim"] for line in journal.of("kill")] == [Victim.ACTOR, Victim.DRIVER, Victim.NODE]
    assert journal.of("kill")[0]["stage"] == Stage.STREAMING


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_appended_and_deleted_during_an_upgrade_is_all_there_though_both_are_killed(
    nodes: Nodes, scene: Scene, tmp_path: Path
) -> None:
    journal = Journal(None)
    play(episode(SEED, WRITER_AND_DRIVER), scene, nodes, tmp_path / "episode", journal, most_kills=2)
    assert journal.problems() == []
    assert {line["victim"] for line in journal.of("kill")} == {Victim.WRITER, Victim.DRIVER}


@pytest.mark.journey
def test_the_checks_find_a_lost_row_a_changed_byte_and_a_shard_that_was_done_again(
    scene: Scene, tmp_path: Path
) -> None:
    undisturbed = scene.undisturbed(FLAT).store
    store, ids = tmp_path / "store", scene.vectors.ids_N[:NUM_ROWS].tolist()
    shutil.copytree(undisturbed, store)
    assert checks.same_as_undisturbed(store, undisturbed) == []
    assert checks.usage_adds_up(store, undisturbed) == []
    assert checks.whole(store, ids) == []
    shard = store / "versions/000002/shards/00003.parquet"
    pq.write_table(pq.read_table(shard).slice(1), shard)
    (store / "versions/000002/receipts/00003.json").touch()
    receipts = {f"versions/000002/receipts/{shard:05d}.json": 0 for shard in (3, 4)}
    assert checks.same_as_undisturbed(store, undisturbed) == ["versions/000002/shards/00003.parquet has other bytes"]
    assert any("1 are lost" in problem for problem in checks.whole(store, ids))
    assert checks.whole(undisturbed, [*ids[:-1], -1]) == [
        f"{where}: of {NUM_ROWS} ids 1 are lost, 0 are doubled, 1 are foreign" for where in ("shards", "indexes")
    ]
    assert len(checks.not_done_again(store, receipts)) == 1
