"""A run's usage records add up over attempts: nothing is lost with a killed driver, nothing counted twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fct_ray.metering import meters
from fct_ray.storage.store import Store
from fct_ray.values import Usage
from fct_ray.workflows.run_usage import RunUsage


@pytest.fixture
def log(tmp_path: Path) -> RunUsage:
    return RunUsage(Store(str(tmp_path)), "upgrade-1")


def test_attempts_at_a_stage_add_up_and_a_part_that_is_found_again_counts_once(log: RunUsage) -> None:
    for flops in (1.0, 2.0):
        with log.stage("stream") as meter:
            log.record_part("stream", "training", Usage(flops=100.0, bytes_read=7))
            meter.add(Usage(flops=flops))
    used = log.used()["stream"]
    assert (used.flops, used.bytes_read) == (103.0, 7)


def test_a_part_counts_though_the_attempt_that_did_it_left_no_record(log: RunUsage) -> None:
    log.record_part("fit", "candidates", Usage(flops=5.0, wall_s=9.0, node_s=9.0))
    assert log.used() == {"fit": Usage(flops=5.0)}


def test_a_part_whose_outcome_was_lost_and_made_again_counts_twice_and_then_no_more(log: RunUsage) -> None:
    for flops in (5.0, 7.0, 7.0 * (1 + 1e-15)):  # found again; its usage is a sum in another order
        log.record_part("fit", "candidates", Usage(flops=flops))
    assert log.used()["fit"].flops == pytest.approx(12.0)


def test_of_an_attempt_that_is_killed_the_time_is_known_but_not_the_work_that_will_be_done_again(
    log: RunUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "COUNT_NODES_EVERY_S", 0.02)
    monkeypatch.setattr(meters, "RECORD_EVERY_S", 0.05)
    with log.stage("pairs") as meter:
        meter.add(Usage(flops=7.0, rows=5))
        while not log.used():
            time.sleep(0.01)
        left_by_a_kill = log.used()["pairs"]
    assert 0.05 <= left_by_a_kill.node_s <= left_by_a_kill.wall_s
    assert (left_by_a_kill.flops, left_by_a_kill.rows) == (0.0, 0)
    whole = log.used()["pairs"]
    assert (whole.flops, whole.rows, whole.wall_s > left_by_a_kill.wall_s) == (7.0, 5, True)
