"""Progress bars: of the driver's own loops, and of work that runs in Ray Train's workers.

Owns: a small actor that workers tell how far they are, and a thread of the driver that draws it. Ray Train runs its
controller in another process, so a callback there could not draw on the user's terminal.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from tqdm import tqdm

POLL_S = 0.5
QUIET_S = 10.0  # between two lines of a bar where nobody watches (a log file)


def bar(total: int, describe: str, unit: str) -> Any:
    """A tqdm bar on the error stream: lively on a terminal, a line now and then in a log."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=describe,
        unit=unit,
        dynamic_ncols=watched,
        mininterval=0.1 if watched else QUIET_S,
        file=sys.stderr,
    )


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
    board: Any = ray.remote(ProgressBoard).options(num_cpus=0).remote()
    stop = threading.Event()
    with bar(1, describe, "step") as shown:
        thread = threading.Thread(target=_draw, args=(board, shown, stop), daemon=True)
        thread.start()
        try:
            yield board
        finally:
            stop.set()
            thread.join(timeout=5)
            ray.kill(board)


def _draw(board: Any, shown: Any, stop: threading.Event) -> None:
    last = False
    while not last:
        last = stop.wait(POLL_S)
        try:
            done, shown.total, text = ray.get(board.get.remote(), timeout=5)
        except RayError:
            return
        shown.set_postfix_str(text, refresh=False)
        shown.update(done - shown.n)
