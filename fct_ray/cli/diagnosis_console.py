"""A diagnosis on the console: tables, then findings by gravity, then what to run next."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from fct_ray.cli.console import print_table
from fct_ray.gallery_facts import Diagnosis, Level
from fct_ray.report.diagnosis_tables import diagnosis_tables, summary

_STYLES = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}


def print_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print all of it."""
    out = console or Console()
    for table in diagnosis_tables(diagnosis.facts):
        print_table(table, out)
    out.print()
    out.print(Text(summary(diagnosis), style="bold"))
    for finding in diagnosis.findings:
        out.print(Text.assemble((f"{finding.level.value}: ", _STYLES[finding.level]), finding.seen))
        for sentence in filter(None, (finding.effect, finding.action)):
            out.print(Text(f"    {sentence}"))
    for problem in diagnosis.facts.unreadable:
        out.print(Text(f"    {problem}", style="dim"))
    if diagnosis.commands:
        out.print()
        out.print(Text("Next", style="bold"))
        for command in diagnosis.commands:
            print(command)  # not wrapped: it is to be copied
