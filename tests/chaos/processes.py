"""The processes of an episode: drivers, and writers to a living gallery, each started as a user would, in its own session.

Owns: starting them, their output in files, their end. Decides nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
LAST_WORDS = 400


class Running:
    """A process of ours and the file with its output."""

    def __init__(self, arguments: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
        self.output = output
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait(self, patience_s: float) -> int | None:
        """Its exit code, when it has ended; None if it has not after so long."""
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def kill_with_all_below(self) -> None:
        """SIGKILL it and every process that it started, directly or not."""
        below = descendants(self.pid)
        self.kill()
        end(below)

    def last_words(self) -> str:
        """The end of its output."""
        return self.output.read_text(errors="replace").strip()[-LAST_WORDS:]


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one that is alive."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(processes: Sequence[psutil.Process]) -> int:
    """SIGKILL those that still live; returns how many did."""
    living = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    for process in living:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    return len(living)
