"""A run's usage records add up over attempts: nothing is lost with a killed driver, nothing counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct_ray.engine.run_log import RunLog
from fct_ray.storage.store import Store
from fct_ray.values import Usage


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(Store(str(tmp_path)), "upgrade-1")


def test_attempts_at_a_stage_add_up_and_a_part_that_is_found_again_counts_once(log: RunLog) -> None:
    for flops in (1.0, 2.0):
        with log.stage("stream") as meter:
            log.record_part("stream", "training", Usage(flops=100.0, bytes_read=7))
            meter.add(Usage(flops=flops))
    used = log.used()["stream"]
    assert (used.flops, used.bytes_read) == (103.0, 7)


def test_a_part_counts_though_the_attempt_that_did_it_left_no_record(log: RunLog) -> None:
    log.record_part("fit", "candidates", Usage(flops=5.0, wall_s=9.0, node_s=9.0))
    assert log.used() == {"fit": Usage(flops=5.0)}
