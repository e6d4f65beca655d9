"""report.md: the report for people who read text, each table with one sentence for newcomers.

Owns: Markdown layout and escaping. What is said is decided in `tables` and `explanations`.
"""

from __future__ import annotations

import re

from fct_ray.report.content import Report
from fct_ray.report.explanations import what_it_shows
from fct_ray.report.quantities import count, store_name
from fct_ray.report.tables import tables_of
from fct_ray.report.text_table import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(report: Report) -> str:
    """The report as Markdown (tables as GitHub writes them); names of stores and models are escaped."""
    version = "none" if report.version is None else str(report.version)
    run = report.run.replace("`", "")
    lines = [
        f"# {escape(report.job)}: {escape(store_name(report.store))}",
        "",
        f"Version {version}, {count(report.rows)} rows, run `{run}`, {report.environment.time}.",
        f"Store: {escape(report.store)}",
        "",
    ]
    sentences = what_it_shows(report)
    if sentences:
        lines += ["## What this shows", "", *(f"- {escape(sentence)}" for sentence in sentences), ""]
    for table in tables_of(report):
        lines += [*_table_lines(table), ""]
    if report.notes:
        lines += ["## Notes", "", *(f"- {escape(note)}" for note in report.notes), ""]
    lines += _settings_lines(report)
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _table_lines(table: Table) -> list[str]:
    def line(cells: tuple[str, ...], *, bold: bool = False) -> str:
        texts = (escape(cell) for cell in cells)
        return "| " + " | ".join(f"**{text}**" if bold and text else text for text in texts) + " |"

    align = "|" + "|".join("---" if place == 0 else "---:" for place in range(len(table.header))) + "|"
    body = [line(row, bold=place in table.emphasized) for place, row in enumerate(table.rows)]
    return [f"## {escape(table.title)}", "", escape(table.sentence), "", line(table.header), align, *body]


def _settings_lines(report: Report) -> list[str]:
    """Settings and environment, so that the numbers can be made again."""
    versions = ", ".join(f"{name} {version}" for name, version in report.environment.versions.items())
    lines = [
        "## Settings and environment",
        "",
        f"Measured on {escape(report.environment.machine)}; {escape(versions)}.",
    ]
    lines += ["", *(f"- {escape(name)}: {escape(str(value))}" for name, value in report.settings.items())]
    return [*lines, ""]
