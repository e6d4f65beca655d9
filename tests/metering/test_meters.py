"""Meters count what happened, also while a cluster grows."""

from __future__ import annotations

import threading
import time

import pytest

from fct_ray.metering import meters
from fct_ray.values import Usage


def test_node_seconds_follow_the_number_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "COUNT_NODES_EVERY_S", 0.02)
    start_s = time.monotonic()
    clock = meters.NodeClock(lambda: 1 if time.monotonic() - start_s < 0.3 else 3)
    time.sleep(0.6)
    node_s, wall_s = clock.stop(), time.monotonic() - start_s
    grown = 0.3 + 3 * (wall_s - 0.3)
    assert node_s == pytest.approx(grown, abs=0.3)
    assert node_s > wall_s


def test_a_stage_adds_the_work_of_others_but_not_their_wall_time() -> None:
    with meters.measure_stage() as meter:
        meter.add(Usage(busy_cpu_s=100.0, wall_s=50.0, node_s=70.0, rows=3))
    assert meter.measured.rows == 3
    assert 100.0 <= meter.measured.busy_cpu_s < 101.0
    assert meter.measured.wall_s < 1.0
    assert meter.measured.node_s == pytest.approx(meter.measured.wall_s, abs=0.1)


def test_busy_seconds_are_those_of_this_process() -> None:
    meter = meters.ProcessMeter()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        sum(range(1000))
    assert 0.1 <= meter.read().busy_cpu_s < 1.0
    assert meter.read().busy_cpu_s < 0.05


def test_a_clock_whose_nodes_cannot_be_counted_goes_on_with_the_last_number_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(meters, "COUNT_NODES_EVERY_S", 0.01)
    monkeypatch.setattr(meters, "RECORD_EVERY_S", 0.02)
    looks, told = iter([3]), threading.Event()

    def count_nodes() -> int:
        return next(looks)  # StopIteration from the second look on

    def tell(node_s: float) -> None:
        told.set()
        raise OSError(f"{node_s} cannot be written")

    start_s = time.monotonic()
    clock = meters.NodeClock(count_nodes, tell)
    assert told.wait(30)
    node_s, wall_s = clock.stop(), time.monotonic() - start_s
    assert node_s == pytest.approx(3 * wall_s, abs=3 * 0.5)
    assert node_s > 2 * wall_s - 0.5
    (record,) = caplog.records
    assert "counted on with 3 nodes, the last number known" in record.getMessage()


def test_no_cpu_second_of_a_process_is_counted_twice() -> None:
    """Seen: a worker that Ray used again counted the CPU seconds of its earlier tasks once more."""
    meters.process_meter().read()
    start_s = time.process_time()
    while time.process_time() < start_s + 0.1:
        sum(range(1000))
    task, next_task = meters.process_meter().read(), meters.process_meter().read()
    assert task.busy_cpu_s + next_task.busy_cpu_s <= time.process_time() - start_s + 0.05
    assert task.busy_cpu_s >= 0.1
