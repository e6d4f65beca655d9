"""Workers and functions for pools and tasks, in a module that their processes can import."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from fct_ray.errors import DataError


class Doubler:
    """A worker: twice the number, and whether Python collects garbage here."""

    def __init__(self, refused: int) -> None:
        """`refused` is the number that is bad data."""
        self.refused = refused

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Raises DataError for the refused number, and KeyError for a task without one."""
        if task["number"] == self.refused:
            raise DataError(f"the number is {self.refused}; want another")
        return {
            "number": task["number"],
            "twice": 2 * task["number"],
            "collects": gc.isenabled(),
            "node": os.environ.get("FCT_RAY_NODE_ID", ""),
            "waits": os.environ.get("OMP_WAIT_POLICY", ""),
        }


class Ender:
    """A worker that ends its process as its task says, and answers those that say nothing."""

    def __init__(self, marks: str, at_start: bool = False) -> None:
        """Every call leaves a line in the file `marks`; with `at_start` no worker can be made at all."""
        self.marks = marks
        if at_start:
            os._exit(7)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Ends the process, or answers the task's number."""
        number = int(task["number"])
        with open(self.marks, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{number}\n")
        end_process(str(task["how"]))
        return {"number": number}


def end_process(how: str) -> str:
    """End this process by "exit CODE", "leave CODE" (`sys.exit`), or "signal NUMBER"; return anything else."""
    kind, _, number = how.partition(" ")
    if kind == "exit":
        os._exit(int(number))
    if kind == "leave":
        sys.exit(int(number))
    if kind == "signal":
        signal.raise_signal(signal.Signals(int(number)))
    return how


def end_or_answer(how: str, shared: str) -> str:
    """A task: ends its process, raises DataError for "bad ...", or answers what both strings are."""
    if how.startswith("bad"):
        raise DataError(f"{how}; want good")
    return end_process(how) + shared
