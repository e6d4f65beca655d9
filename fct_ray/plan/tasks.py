"""What people search for, one known item or similar items, and which of the two a kind of evidence shows.

Owns: that table. Knows no measures.
"""

from __future__ import annotations

from collections.abc import Mapping

from fct_ray.kinds import EvidenceKind, Task

SHOWS: Mapping[EvidenceKind, frozenset[Task]] = {
    EvidenceKind.QUERIES: frozenset(Task),
    EvidenceKind.PSEUDO: frozenset({Task.KNOWN_ITEM}),
    EvidenceKind.LABELS: frozenset({Task.SIMILAR}),
    EvidenceKind.POOLED: frozenset({Task.SIMILAR}),
    EvidenceKind.HELD_OUT: frozenset(),
}
"""Kind of evidence -> the tasks that it shows. Real queries show whatever they ask, which nothing else knows better."""


def shows(kind: EvidenceKind, task: Task | None, other: EvidenceKind | None = None) -> bool:
    """Whether this evidence, with `other` beside it where that counts too, shows the task; None: both tasks.

    Examples:
        >>> shows(EvidenceKind.PSEUDO, Task.KNOWN_ITEM), shows(EvidenceKind.PSEUDO, None)
        (True, False)
        >>> shows(EvidenceKind.PSEUDO, None, EvidenceKind.LABELS)
        True
    """
    wanted = frozenset(Task) if task is None else {task}
    return wanted <= SHOWS[kind] | (frozenset() if other is None else SHOWS[other])
