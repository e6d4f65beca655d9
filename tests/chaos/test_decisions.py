"""Episodes are decided by seed alone, and together they cover every victim and every stage."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tests.chaos.decisions import Stage, Victim, chosen, episode
from tests.chaos.edits import Edit, Kind, Outcome, Tried, edits, rows_in_the_end
from tests.chaos.journal import Journal
from tests.chaos.sight import Seen, stage_of

WORKING = Seen(at_work=True, pairs=True, fitted=True, judged=True)
FIRST = 10
APPEND = Edit(kind=Kind.APPEND, rows=np.arange(FIRST, FIRST + 4))
DELETE = Edit(kind=Kind.DELETE, rows=np.array([0, FIRST]))


def test_an_episode_follows_from_its_seed_and_number() -> None:
    assert pickle.dumps(episode(3, 5)) == pickle.dumps(episode(3, 5))
    assert episode(3, 5).kills != episode(4, 5).kills
    assert episode(3, 5).kills != episode(3, 13).kills


def test_kills_come_in_the_order_of_stages_and_cover_all_victims_of_all_stages() -> None:
    seen = set()
    for number in range(400):
        played = episode(0, number)
        places = [kill.stage.place for kill in played.kills]
        assert places == sorted(places)
        seen |= {(kill.victim, kill.stage) for kill in played.kills}
        victims = {kill.victim for kill in played.kills}
        assert not (played.setup.alone and Victim.NODE in victims), "there is one node, the driver's own"
        assert played.setup.alone or Victim.MACHINE not in victims
        assert played.setup.living or Victim.WRITER not in victims
    assert {victim for victim, _ in seen} == set(Victim)
    assert {stage for victim, stage in seen if victim is Victim.DRIVER} == set(Stage) - {Stage.REPORTING}


def test_a_share_of_a_list_means_each_of_its_things() -> None:
    assert [chosen(pick, 3) for pick in (0.0, 0.34, 0.99, 1.0)] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("seen", "stage"),
    [
        (Seen(), Stage.PLANNING),
        (Seen(at_work=True), Stage.PAIRS),
        (Seen(at_work=True, pairs=True), Stage.FITTING),
        (Seen(at_work=True, pairs=True, fitted=True), Stage.GATE),
        (WORKING, Stage.STREAMING),
        (replace(WORKING, publishing=True, num_verified=1), Stage.VERIFYING),
        (replace(WORKING, publishing=True, num_verified=2), Stage.PUBLISHING),
        (replace(WORKING, publishing=True, num_verified=2, published=True), Stage.REPORTING),
        (Seen(published=True), Stage.REPORTING),
    ],
)
def test_the_stage_follows_from_what_the_store_shows(seen: Seen, stage: Stage) -> None:
    assert stage_of(seen, fits=True, verified_before=1) is stage


def test_without_a_fit_the_gate_comes_after_the_pairs() -> None:
    assert stage_of(Seen(at_work=True, pairs=True), fits=False, verified_before=0) is Stage.GATE


def test_edits_append_each_row_once_and_delete_rows_that_are_there_and_no_pairs() -> None:
    present, kept = set(range(100)), set(range(0, 100, 4))
    made = edits(0, 7, first=100, last=3000, kept=kept)
    assert {edit.kind for edit in made} == set(Kind)
    for edit in made:
        rows = set(edit.rows.tolist())
        assert len(rows) == len(edit.rows) > 0
        if edit.kind is Kind.APPEND:
            assert not rows & present
            present |= rows
        else:
            assert rows <= present - kept
            present -= rows


@pytest.mark.parametrize(
    ("tried", "found", "wanted"),
    [
        (Tried(times=1, outcome=Outcome.DONE), set(), set(range(1, 10)) | {11, 12, 13}),
        (Tried(times=1, outcome=Outcome.REFUSED), {11, 12, 13}, set(range(1, 10))),
        (Tried(times=2, outcome=Outcome.REFUSED), set(), set(range(1, 10))),
        (Tried(times=2, outcome=Outcome.REFUSED), {11, 12, 13}, set(range(1, 10)) | {11, 12, 13}),
    ],
)
def test_the_rows_in_the_end_are_those_of_the_edits_that_were_published(
    tried: Tried, found: set[int], wanted: set[int]
) -> None:
    done = Tried(times=1, outcome=Outcome.DONE)
    assert rows_in_the_end(FIRST, [APPEND, DELETE], {0: tried, 1: done}, found) == (wanted, [])


def test_an_append_that_was_published_in_part_is_a_problem() -> None:
    killed = Tried(times=2, outcome=Outcome.REFUSED)
    _, problems = rows_in_the_end(FIRST, [APPEND], {0: killed}, {11, 12})
    assert problems == ["edit 0 was published in part: 2 of 4 rows"]


def test_the_table_counts_victims_by_stage() -> None:
    journal = Journal(None)
    for victim, stage in ((Victim.DRIVER, Stage.GATE), (Victim.DRIVER, Stage.GATE), (Victim.NODE, Stage.STREAMING)):
        journal.write("kill", victim=victim, stage=stage, episode=0)
    journal.write("episode", episode=0, starts=3, gave_up=0, problems=["a row is lost"], wall_s=60.0)
    lines = [line.split() for line in journal.table().splitlines()]
    assert lines[0] == ["victim", "gate", "streaming", "all"]
    assert lines[1:4] == [["driver", "2", "0", "2"], ["node", "0", "1", "1"], ["all", "2", "1", "3"]]
    assert journal.problems() == ["episode 0: a row is lost"]
    assert "0 of 1 episodes ended as they must" in journal.table()
