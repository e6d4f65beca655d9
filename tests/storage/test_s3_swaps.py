"""Compare-and-swap on S3 when answers are lost, requests throttled and others swap too: a win is a win, and known.

The faults are made by a proxy before the real server (`tests/faulty_s3.py`): every request and answer is a real one.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fct_ray.errors import PublishConflictError
from fct_ray.storage import objects
from tests.faulty_s3 import Fault, FaultyS3, Request, random_faults


def test_a_swap_whose_answer_was_lost_is_known_to_have_won(faulty: FaultyS3, s3_uri: str) -> None:
    uri = f"{s3_uri}/pointer"
    faulty.coming = [Fault.LOST]
    assert objects.create(uri, b"1")
    faulty.coming = [None, Fault.LOST]  # the read, then the conditional put
    objects.compare_and_swap(uri, expected=b"1", new=b"2")
    assert objects.read_bytes(uri) == b"2"


def test_a_swap_that_had_won_is_not_lost_when_another_one_follows_before_it_hears(
    faulty: FaultyS3, s3_uri: str
) -> None:
    """Ours is done and its answer is lost; another publisher goes on from it; only then ours is repeated."""
    uri = f"{s3_uri}/pointer"
    objects.write_bytes(uri, b"1")
    faulty.seen.clear()

    def follow(request: Request) -> Fault | None:
        if (request.method, request.nth) == ("PUT", 1):
            objects.compare_and_swap(uri, expected=b"2", new=b"3")
        return Fault.LOST if (request.method, request.nth) == ("PUT", 0) else None

    faulty.schedule = follow
    objects.compare_and_swap(uri, expected=b"1", new=b"2")
    assert objects.read_bytes(uri) == b"3"


def test_a_swap_that_lost_is_a_conflict_even_after_throttling(faulty: FaultyS3, s3_uri: str) -> None:
    uri = f"{s3_uri}/pointer"
    objects.write_bytes(uri, b"other")
    faulty.coming = [Fault.SLOW_DOWN]
    assert not objects.create(uri, b"mine")
    faulty.coming = [Fault.SLOW_DOWN]
    with pytest.raises(PublishConflictError, match="seen 'other'"):
        objects.compare_and_swap(uri, expected=b"1", new=b"mine")
    assert objects.read_bytes(uri) == b"other"


def test_among_eight_writers_and_faults_every_win_is_real_and_every_real_win_is_known(
    faulty: FaultyS3, s3_uri: str
) -> None:
    """They count a number up, each by compare-and-swap: a false win would repeat a number, a false loss skip one."""
    uri = f"{s3_uri}/number"
    objects.write_bytes(uri, b"0")
    kinds = (Fault.LOST, Fault.REPEATED, Fault.CONFLICT, Fault.CUT_BY_RESET, Fault.SLOW_DOWN)
    faulty.schedule = random_faults(0, dict.fromkeys(kinds, 0.05))
    start_s = time.monotonic()

    def goes_on() -> bool:  # a busy machine needs longer until each kind of fault was met
        passed_s, all_met = time.monotonic() - start_s, min(faulty.met[kind] for kind in kinds) >= 1
        return passed_s < 5 or (passed_s < 60 and not all_met)

    def count_up(_: int) -> list[int]:
        won = []
        while goes_on():
            seen = objects.read_bytes(uri)
            with contextlib.suppress(PublishConflictError):
                objects.compare_and_swap(uri, expected=seen, new=str(int(seen) + 1).encode())
                won.append(int(seen) + 1)
        return won

    with ThreadPoolExecutor(8) as threads:
        won = sorted(number for numbers in threads.map(count_up, range(8)) for number in numbers)
    assert won == list(range(1, int(objects.read_bytes(uri)) + 1))
    assert len(won) >= 8
    assert min(faulty.met[kind] for kind in kinds) >= 1
