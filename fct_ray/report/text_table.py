"""One table of a report: a title, a sentence, text cells. Which there are: `tables`. How one looks is up to the renderer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table: `sentence` says what it shows; rows have as many cells as the header; column 0 is text."""

    name: str
    title: str
    sentence: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    emphasized: frozenset[int] = frozenset()
    """Rows to be set off: the references, not the candidates."""
