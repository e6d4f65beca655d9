"""Appending and deleting by seed, and which rows must be there in the end: a set, and nothing of the engine.

Owns: the edits as values, and the model that their outcome is held against. Rows are positions among the photos.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

NUM_EDITS, MOST_APPENDED, MOST_DELETED = 10, 600, 500


class Kind(StrEnum):
    """What is done with the rows."""

    APPEND = "append"
    DELETE = "delete"


class Outcome(StrEnum):
    """What became of an edit."""

    DONE = "done"
    REFUSED = "refused"
    """The store had been upgraded: items of the old encoder cannot join any more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edit:
    """One edit of a gallery."""

    kind: Kind
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """How often an edit was begun, and how it ended."""

    times: int
    outcome: Outcome


def edits(seed: int, number: int, *, first: int, last: int, kept: Collection[int]) -> list[Edit]:
    """The edits of an episode, in order: rows first .. last - 1 are appended bit by bit, rows not in `kept` deleted."""
    random, made, end = np.random.default_rng((seed, number, 1)), [], first
    present = set(range(first)) - set(kept)
    for _ in range(NUM_EDITS):
        if random.random() < 0.5 and end < last:
            count = min(last - end, int(random.integers(1, MOST_APPENDED, endpoint=True)))
            made.append(Edit(kind=Kind.APPEND, rows=np.arange(end, end + count)))
            present |= set(range(end, end + count))
            end += count
        else:
            rows = random.choice(sorted(present), int(random.integers(1, MOST_DELETED, endpoint=True)), replace=False)
            made.append(Edit(kind=Kind.DELETE, rows=np.sort(rows)))
            present -= set(rows.tolist())
    return made


def rows_in_the_end(
    first: int, made: Sequence[Edit], tried: Mapping[int, Tried], found: Collection[int]
) -> tuple[set[int], list[str]]:
    """The rows that must be there, and what is wrong with `found` where a kill left open which they are.

    An append that was killed and, tried again, was refused may have been published before the kill, or not: all
    of its rows are there (but for those deleted later), or none.
    """
    present, problems = set(range(first)), []
    for position, edit in enumerate(made):
        rows = set(edit.rows.tolist())
        if edit.kind is Kind.DELETE:
            present -= rows
        elif tried[position].outcome is Outcome.DONE:
            present |= rows
        elif tried[position].times > 1:
            later = {row for other in made[position:] if other.kind is Kind.DELETE for row in other.rows.tolist()}
            seen = (rows - later) & set(found)
            if seen and seen != rows - later:
                problems.append(f"edit {position} was published in part: {len(seen)} of {len(rows - later)} rows")
            present |= rows if seen else set()
    return present, problems
