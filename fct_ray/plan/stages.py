"""The stages of a run: their order, and how the work of each grows.

Owns: the one list of stages. Usage records, savings and reports follow it. A stage that is not in it is an error where its
usage would be recorded, so that no work is left out of a bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Growth(StrEnum):
    """How the work of a stage grows."""

    FIXED = "fixed"
    """With the number of pairs: it is the same for a gallery ten times as large."""
    PER_ROW = "per_row"
    """With the rows of the gallery."""


STAGES: Mapping[str, Growth] = {
    "plan": Growth.FIXED,
    "pairs": Growth.FIXED,
    "refine": Growth.PER_ROW,
    "fit": Growth.FIXED,
    "gate": Growth.FIXED,
    "stream": Growth.PER_ROW,
    "verify": Growth.PER_ROW,
    "publish": Growth.PER_ROW,
}
"""Stage -> growth, in the order in which stages run and are shown."""
