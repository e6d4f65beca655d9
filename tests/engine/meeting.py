"""Tasks that wait for each other, in a module that their processes can import."""

from __future__ import annotations

import time
from typing import Any

import ray

PATIENCE_S = 60.0


class Room:
    """An actor that counts who came in."""

    def __init__(self) -> None:
        self.inside = 0

    def come_in(self) -> None:
        """One more is there."""
        self.inside += 1

    def count(self) -> int:
        """How many came in."""
        return self.inside


def meet(number: int, wanted: int) -> int:
    """A task that ends once `wanted` of its kind have begun, or after `PATIENCE_S`; returns how many had."""
    room: Any = ray.get_actor("room", namespace="meeting")
    ray.get(room.come_in.remote())
    seen, end_s = 0, time.monotonic() + PATIENCE_S
    while seen < wanted and time.monotonic() < end_s:
        time.sleep(0.1)
        seen = int(ray.get(room.count.remote()))
    if seen < wanted:
        raise RuntimeError(f"task {number} met {seen}")
    return seen
