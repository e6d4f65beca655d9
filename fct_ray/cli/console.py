"""The report on the console: rich tables and the sentences that explain them.

Owns: colours and layout in a terminal. What is said is decided in `tables` and `explanations`.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from fct_ray.report.content import Report
from fct_ray.report.explanations import what_it_shows
from fct_ray.report.tables import tables_of
from fct_ray.report.text_table import Table

_NARROW_COLUMNS = 110
"""Below this width the compatibility table drops the two columns that its method names already say."""
_DROPPED_WHEN_NARROW = frozenset({"query", "gallery", "side", "recovered top-1", "busy GPU", "read", "written"})


def print_report(report: Report, console: Console | None = None) -> None:
    """Print every table that applies, each with its sentence, then notes, and at the end what a reader looks for first."""
    out = console or Console()
    for table in tables_of(report):
        print_table(table, out)
    for note in report.notes:
        out.print(Text(f"Note: {note}", style="yellow"))
    sentences = what_it_shows(report)
    if sentences:
        out.print()
        out.print(Text("What this shows", style="bold"))
    for sentence in sentences:
        out.print(Text(f"- {sentence}"))


def print_table(table: Table, console: Console | None = None) -> None:
    """One table and its sentence."""
    out = console or Console()
    out.print()
    out.print(_rich_table(table, narrow=out.width < _NARROW_COLUMNS))
    out.print(Text(table.sentence, style="dim"))


def _rich_table(table: Table, *, narrow: bool) -> RichTable:
    shown = [place for place, name in enumerate(table.header) if not (narrow and name in _DROPPED_WHEN_NARROW)]
    rich_table = RichTable(title=escape(table.title), title_justify="left", title_style="bold")
    for place in shown:
        one_word = place == 0 and all(" " not in row[place] for row in table.rows)  # such a name is not cut in two
        rich_table.add_column(
            escape(table.header[place]), justify="right" if place else "left", no_wrap=one_word, overflow="fold"
        )
    for row_place, row in enumerate(table.rows):
        cells = (Text(row[place]) for place in shown)
        rich_table.add_row(*cells, style="bold" if row_place in table.emphasized else None)
    return rich_table
