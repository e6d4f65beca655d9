"""Eight processes race for one object: exactly one wins, on local disk and on S3."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest

from fct_ray.errors import PublishConflictError
from fct_ray.storage import objects
from fct_ray.storage.store import Store

RACERS, ROUNDS = 8, 4
CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fct_ray.storage.store", "s3fs"])  # imported once, not eight times


def _race(environment: dict[str, str], root: str, number: int, barrier: Any, results: Any) -> None:
    os.environ.update(environment)  # the fork server has kept that of the first test
    created, swapped = [], []
    store = Store(f"{root}/store")
    for turn in range(ROUNDS):
        me = f"{turn} by {number}".encode()
        barrier.wait(60)
        created.append(objects.create(f"{root}/created-{turn}", me))
        barrier.wait(60)
        seen = objects.read_bytes(f"{root}/pointer") if turn else None
        barrier.wait(60)
        try:
            objects.compare_and_swap(f"{root}/pointer", expected=seen, new=me)
            swapped.append(True)
        except PublishConflictError:
            swapped.append(False)
    barrier.wait(60)
    claimed = (store.claim_version(f"run-{number}", None), store.claim_version("shared", None))
    results.put((number, created, swapped, claimed))


@pytest.mark.timeout(120)
def test_of_eight_processes_one_creates_one_swaps_and_none_share_a_version(root: str) -> None:
    barrier, results = CONTEXT.Barrier(RACERS), CONTEXT.Queue()
    racers = [
        CONTEXT.Process(target=_race, args=(dict(os.environ), root, number, barrier, results))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    outcomes = sorted(results.get(timeout=100) for _ in racers)
    for racer in racers:
        racer.join()

    for turn in range(ROUNDS):
        creators = [number for number, created, _, _ in outcomes if created[turn]]
        swappers = [number for number, _, swapped, _ in outcomes if swapped[turn]]
        assert len(creators) == len(swappers) == 1
        assert objects.read_bytes(f"{root}/created-{turn}") == f"{turn} by {creators[0]}".encode()
    assert objects.read_bytes(f"{root}/pointer") == f"{ROUNDS - 1} by {swappers[0]}".encode()
    own, shared = {claimed[0] for *_, claimed in outcomes}, {claimed[1] for *_, claimed in outcomes}
    assert len(shared) == 1, "the same run gets the same version in every process"
    assert own | shared == set(range(1, RACERS + 2)), "different runs never share a version"
