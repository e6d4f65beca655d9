"""Progress on the error stream: bars on a terminal, plain lines in a log file, also of work in Ray Train's workers.

Owns: how progress looks, a small actor that workers tell how far they are, and a thread of the driver that shows it.
Ray Train runs its controller in another process, so a callback there could not draw on the user's terminal.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self, TextIO

import ray
from ray.exceptions import GetTimeoutError, RayError
from tqdm import tqdm

POLL_S, ASK_S = 0.5, 5.0
LINE_EVERY_S = 60.0
"""Between two lines of one long step in a log file; a short step has one line, at its end."""


class Shown(Protocol):
    """What shows the progress of one step: a `tqdm`, or `Lines`."""

    n: float
    total: Any

    def update(self, n: float) -> Any:
        """So many more are done."""

    def set_postfix_str(self, s: str, refresh: bool) -> Any:
        """What was done last."""


class Lines:
    """Progress where nobody watches: a plain line at the end of a step, and one a minute while it lasts."""

    def __init__(self, total: int, describe: str, unit: str, out: TextIO, clock: Callable[[], float]) -> None:
        """`clock` returns seconds."""
        self.n, self.total, self.describe, self.unit = 0.0, total, describe, unit
        self._out, self._clock, self._text = out, clock, ""
        self._start_s = self._said_s = clock()

    def update(self, n: float) -> None:
        """So many more are done."""
        self.n += n
        if self._clock() - self._said_s >= LINE_EVERY_S:
            self._said_s = self._clock()
            self._say()

    def set_postfix_str(self, s: str, refresh: bool) -> None:
        """What was done last; the next line has it (`refresh` is for terminals)."""
        del refresh
        self._text = s

    def _say(self) -> None:
        took_s, text = self._clock() - self._start_s, f" ({self._text})" if self._text else ""
        plural = "" if self.total == 1 else "s"
        line = f"{self.describe}: {self.n:,.0f} of {self.total:,} {self.unit}{plural} in {took_s:,.0f} s{text}\n"
        self._out.write(line)
        self._out.flush()

    def __enter__(self) -> Self:
        """The step begins."""
        return self

    def __exit__(self, *failed: object) -> None:
        """The step has ended; one with nothing to do is not worth a line."""
        if self.total:
            self._say()


@contextmanager
def bar(total: int, describe: str, unit: str) -> Iterator[Shown]:
    """A lively bar on a terminal, plain lines elsewhere, both on the error stream."""
    if not sys.stderr.isatty():
        with Lines(total, describe, unit, sys.stderr, time.monotonic) as lines:
            yield lines
        return
    with tqdm(total=total, desc=describe, unit=unit, dynamic_ncols=True, file=sys.stderr) as drawn:
        yield drawn


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
            thread.join(timeout=2 * ASK_S)
            ray.kill(board)


def _draw(board: Any, shown: Shown, stop: threading.Event) -> None:
    last = False
    while not last:
        last = stop.wait(POLL_S)
        try:
            done, shown.total, text = ray.get(board.get.remote(), timeout=ASK_S)
        except GetTimeoutError:
            continue  # the machine is busy: the next answer may come in time
        except RayError:
            return
        shown.set_postfix_str(text, refresh=False)
        shown.update(done - shown.n)
