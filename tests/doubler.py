"""A worker for pools of actors, in a module that their processes can import."""

from __future__ import annotations

import gc
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
        return {"number": task["number"], "twice": 2 * task["number"], "collects": gc.isenabled()}
