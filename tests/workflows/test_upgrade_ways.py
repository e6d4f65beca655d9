"""Which ways of upgrading are compared, and galleries on which most of them mean nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct_ray.errors import FctRayError, SettingsError
from fct_ray.kinds import Accept, EvidenceKind, Method, QueryRole, Task, WayChoice
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade import candidates
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import GateSettings, UpgradeSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.workflows.asked import QUICK_FIT, Asked, adopted_rows, by_queries, noisy_photos, unit, write_new
from tests.workflows.living import Living

NOTHING_FITTED = {Method.WHITENED, Method.FUSED, Method.FUSED_WHITENED}
JOINED_WITH_H = {Method.FUSED_LINEAR, Method.FUSED_CORRECTED, Method.FUSED_FCT}
MAPS = {Method.LINEAR_SIDE, Method.CORRECTED, Method.FCT_SIDE, Method.PROCRUSTES}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train takes longer to start than all else here: the pilot says that no network is needed."""
    monkeypatch.setattr(candidates, "network_is_promising", lambda *_: False)


def _run(settings: UpgradeSettings, living: Living) -> UpgradeOutcome:
    return run_upgrade(plan_upgrade(settings, None, None), living.size)


def _compared(living: Living, **changed: Any) -> set[Method]:
    """The methods that an upgrade compared; labels refuse it, because both tasks are asked for."""
    settings = dataclasses.replace(living.settings(), transformation=None, **QUICK_FIT, **changed)
    outcome = _run(dataclasses.replace(settings, accept=Accept.PROVEN), living)
    assert outcome.published is None
    assert outcome.judged is not None
    return {way.method for way in outcome.judged.result.ways}


@pytest.mark.parametrize(
    ("way", "wanted", "never"),
    [
        (WayChoice.NOTHING_FITTED, NOTHING_FITTED, JOINED_WITH_H | MAPS),
        (WayChoice.FUSED, NOTHING_FITTED | {Method.FUSED_LINEAR}, MAPS),
        (WayChoice.H, MAPS, NOTHING_FITTED | JOINED_WITH_H),
    ],
)
def test_the_choice_of_ways_restricts_what_is_compared(
    living: Living, way: WayChoice, wanted: set[Method], never: set[Method]
) -> None:
    compared = _compared(living, way=way)
    assert wanted <= compared
    assert not compared & never


def test_ways_whose_vectors_the_index_cannot_hold_are_left_out(living: Living) -> None:
    """PQ8 wants eight equal parts: h has 48 dimensions, old + side 30, old 6."""
    compared = _compared(living, index="IVF16,PQ8")
    assert compared >= {Method.LINEAR_SIDE, Method.PROCRUSTES}
    assert not compared & (NOTHING_FITTED | JOINED_WITH_H)


def test_where_the_index_can_hold_none_of_the_chosen_ways_it_says_so(living: Living) -> None:
    with pytest.raises(SettingsError, match=r"nothing-fitted.*IVF16,PQ8"):
        _compared(living, index="IVF16,PQ8", way=WayChoice.NOTHING_FITTED)


def _asked(old_GD: np.ndarray, side_GS: np.ndarray, new_GW: np.ndarray, noise: float = 0.2) -> Asked:
    rng = np.random.default_rng(5)
    relevant = rng.permutation(len(old_GD))[: min(200, len(old_GD))]

    def near(rows_GD: np.ndarray) -> np.ndarray:
        rows = rows_GD[relevant]
        return np.asarray(rows + (rng.normal(0, noise, rows.shape) if np.ptp(rows_GD) else 0), dtype=np.float32)

    return Asked(relevant_Q=relevant, old_QD=near(old_GD), side_QS=near(side_GS), new_QW=near(new_GW))


def _random(rows: int, dimension: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(rows, dimension)))


def _upgrade(
    directory: Path, living: Living, old_GD: np.ndarray, side_GS: np.ndarray, new_GW: np.ndarray, **changed: Any
) -> UpgradeOutcome:
    made = adopted_rows(directory, living, old_GD, side_GS, num_shards=changed.pop("num_shards", 3))
    queries = _asked(old_GD, side_GS, new_GW).write(directory / "q.parquet")
    rows = np.arange(len(old_GD))[: max(200, len(old_GD) // 3)]
    settings = dataclasses.replace(
        by_queries(made, queries),
        pairs=write_new(directory / "pairs.parquet", rows, new_GW[rows]),
        **{"index": "Flat", "way": WayChoice.FUSED, **changed},
    )
    return _run(settings, made)


@pytest.mark.parametrize("side", ["zero", "constant", "one that varies"])
def test_side_information_that_says_nothing_wins_nothing(living: Living, tmp_path: Path, side: str) -> None:
    rows = 2000
    old_GD, side_GS = _random(rows, 8, 0), np.zeros((rows, 6), np.float32)
    if side != "zero":
        side_GS += 0.5
    if side == "one that varies":
        side_GS[7] = 1.0
    outcome = _upgrade(tmp_path, living, old_GD, side_GS, _random(rows, 10, 1))
    assert outcome.published is None
    assert outcome.judged is not None
    for way in outcome.judged.result.ways:
        assert not way.clears


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_old_vectors_that_are_all_the_same_are_no_reason_to_fail(living: Living, tmp_path: Path, value: float) -> None:
    """Then whatever says something is better, and what is constant itself is never chosen."""
    rows = 2000
    old_GD = np.full((rows, 8), value, np.float32)
    way = WayChoice.NOTHING_FITTED
    outcome = _upgrade(tmp_path, living, old_GD, _random(rows, 6, 0), _random(rows, 10, 1), way=way)
    assert outcome.judged is not None
    result = outcome.judged.result
    assert result.agreement[Method.OLD_OLD] < 0.01
    assert result.chosen is Method.FUSED
    assert outcome.published is not None
    assert {query.role for query in outcome.published.queries} == {QueryRole.OLD, QueryRole.SIDE}


def test_a_gallery_where_nothing_says_anything_is_left_alone(living: Living, tmp_path: Path) -> None:
    rows = 1000
    same = np.full((rows, 8), 0.5, np.float32)
    outcome = _upgrade(tmp_path, living, same, same[:, :6].copy(), same.copy())
    assert outcome.published is None


def test_shards_of_one_row_and_fewer_rows_than_results(living: Living, tmp_path: Path) -> None:
    rows = 60
    outcome = _upgrade(
        tmp_path, living, _random(rows, 8, 0), _random(rows, 6, 1), _random(rows, 10, 2),
        num_shards=rows, gate=GateSettings(k=100, share=0.6), way=WayChoice.NOTHING_FITTED,
    )  # fmt: skip
    assert outcome.judged is not None
    assert outcome.judged.result.evidence is EvidenceKind.QUERIES
    assert 30 <= outcome.judged.result.num_pairs <= rows, "queries for what was fitted on do not judge"
    if outcome.published is not None:
        assert verify_store(VerifySettings(store=outcome.plan.store.uri)).problems == ()


def test_more_results_than_held_out_pairs_are_refused_by_name(living: Living, tmp_path: Path) -> None:
    rows = 60
    made = adopted_rows(tmp_path, living, _random(rows, 8, 0), num_shards=rows)
    pairs = write_new(tmp_path / "pairs.parquet", np.arange(rows), _random(rows, 10, 2))
    gate = GateSettings(k=50, share=0.6)
    settings = UpgradeSettings(
        store=made.store.uri, encoder="new-api", pairs=pairs, gate=gate, way=WayChoice.FUSED, **QUICK_FIT
    )
    with pytest.raises(FctRayError, match="k is 50"):
        _run(settings, made)


@pytest.mark.parametrize("labels", ["one for all", "one for each"])
def test_labels_that_tell_nothing_apart_are_no_evidence(living: Living, tmp_path: Path, labels: str) -> None:
    rows = 1000
    labels_G = np.zeros(rows, np.int64) if labels == "one for all" else np.arange(rows) // (1 + (np.arange(rows) < 60))
    old_GD = _random(rows, 8, 0)
    made = adopted_rows(tmp_path, living, old_GD, labels_G=labels_G)
    paired = np.arange(rows - 400, rows)
    pairs = write_new(tmp_path / "pairs.parquet", paired, _random(rows, 10, 2)[paired])
    settings = UpgradeSettings(
        store=made.store.uri, encoder="new-api", pairs=pairs, task=Task.SIMILAR, way=WayChoice.NOTHING_FITTED
    )
    outcome = _run(settings, made)
    assert outcome.judged is not None
    assert outcome.judged.result.evidence is EvidenceKind.HELD_OUT


@pytest.fixture(scope="module")
def joined(adopted: Living, tmp_path_factory: pytest.TempPathFactory) -> Living:
    """A gallery whose old vectors and side-information were joined."""
    directory = tmp_path_factory.mktemp("joined")
    living = adopted.copy(directory / "copy")
    queries = noisy_photos(living).write(directory / "q.parquet")
    assert _run(by_queries(living, queries), living).published is not None
    return living


def test_a_joined_version_can_be_upgraded_by_what_it_holds(joined: Living, tmp_path: Path) -> None:
    """Labels judge; its vectors are the old ones now, and queries of the new encoder alone search what comes out.

    Joined vectors are better at the very first place than any map of them, which has to be tolerated by name.
    """
    living = joined.copy(tmp_path)
    settings = dataclasses.replace(
        living.settings(),
        encoder="newer-api",
        transformation=None,
        task=Task.SIMILAR,
        **QUICK_FIT,
        gate=GateSettings(tolerance=0.2),
    )
    outcome = _run(dataclasses.replace(settings, accept=Accept.PROVEN), living)
    assert outcome.judged is not None
    assert outcome.published is not None, outcome.judged.result.reason
    assert (outcome.published.version, outcome.published.queries, outcome.published.format_version) == (3, (), 1)
    _, ids_QK = open_searcher(living.store.uri, "newer-api").search(living.vectors.new_NW[:50], k=10, nprobe=16)
    labels = dict(zip(living.vectors.ids_N.tolist(), living.vectors.labels_N.tolist(), strict=True))
    found = [[labels[i] == labels[q] for i in row] for q, row in zip(living.vectors.ids_N[:50], ids_QK, strict=True)]
    assert np.mean(found) > 0.6
    assert verify_store(VerifySettings(store=living.store.uri)).problems == ()


def test_real_queries_for_a_joined_version_are_refused_and_say_why(joined: Living, tmp_path: Path) -> None:
    queries = noisy_photos(joined).write(tmp_path / "q.parquet")
    with pytest.raises(SettingsError, match=r"joined"):
        plan_upgrade(dataclasses.replace(by_queries(joined, queries), encoder="newer-api"), None, None)


def test_nothing_more_can_be_joined_to_a_joined_version(joined: Living) -> None:
    settings = dataclasses.replace(joined.settings(), encoder="newer-api", transformation=None)
    with pytest.raises(SettingsError, match=r"nothing-fitted.*joined"):
        _run(dataclasses.replace(settings, way=WayChoice.NOTHING_FITTED), joined)
