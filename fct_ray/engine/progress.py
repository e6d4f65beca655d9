"""A progress bar on the driver for work that runs in Ray Train's workers.

Owns: a small actor that workers tell how far they are, and a thread of the driver that draws it. Ray Train runs its
controller in another process, so a callback there could not draw on the user's terminal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from tqdm import tqdm

POLL_S = 0.5


@ray.remote(num_cpus=0, max_concurrency=4)
class ProgressBoard:
    """The latest (done, total, text) that a fit's rank 0 reported."""

    def __init__(self) -> None:
        self._latest: tuple[int, int, str] = (0, 1, "starting workers")

    def put(self, done: int, total: int, text: str) -> None:
        """Replace the latest state."""
        self._latest = (done, total, text)

    def get(self) -> tuple[int, int, str]:
        """The latest state."""
        return self._latest


@contextmanager
def progress_bar(describe: str) -> Iterator[Any]:
    """A bar drawn while the block runs; yields the actor handle that workers report to."""
    board = ProgressBoard.remote()  # type: ignore[attr-defined]
    stop = threading.Event()
    with tqdm(total=1, desc=describe, unit="step", dynamic_ncols=True) as bar:
        thread = threading.Thread(target=_draw, args=(board, bar, stop), daemon=True)
        thread.start()
        try:
            yield board
        finally:
            stop.set()
            thread.join(timeout=5)
            ray.kill(board)


def _draw(board: Any, bar: Any, stop: threading.Event) -> None:
    last = False
    while not last:
        last = stop.wait(POLL_S)
        try:
            done, bar.total, text = ray.get(board.get.remote(), timeout=5)
        except RayError:
            return
        bar.n = done
        bar.set_postfix_str(text)
        bar.refresh()
