"""report.md and the console: the same tables, readable, with names that cannot break them."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from fct_ray.cli.console import print_report
from fct_ray.report.content import Report
from fct_ray.report.html_file import render_html
from fct_ray.report.markdown_file import render_markdown
from fct_ray.report.tables import tables_of


def console_text(report: Report, width: int = 160) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def test_every_table_is_followed_by_a_sentence_for_newcomers(report: Report) -> None:
    tables = tables_of(report)
    assert [table.name for table in tables] == ["compatibility", "saved", "projections", "stages", "spend", "gate"]
    text = render_markdown(report)
    for table in tables:
        assert len(table.sentence.split()) > 10
        assert all(len(row) == len(table.header) for row in table.rows)
        assert f"## {table.title}" in text


def test_markdown_tables_have_one_cell_per_column_and_the_figures_of_the_report(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    assert (
        "| FCT, with side-information | new | h(old, side) | yes | 90.0 % | 93.0 % | 88.3 % | 93.8 % | 95.7 % |"
        in lines
    )
    assert "| stream | 20.0 s | 36.0 s | 0.00 s | 340 GFLOP | 30.0 MiB | 60.0 MiB | 30,000 | $0.10 |" in lines
    assert "| forecast | 1 min 20 s | $0.12 | 1 h 07 min |" in lines


def test_stage_cost_without_node_seconds_is_not_zero_dollars(report: Report) -> None:
    stages = next(table for table in tables_of(report) if table.name == "stages")
    assert stages.rows[0][0] == "plan"
    assert stages.rows[0][-1].startswith("n/a (hours:")


def test_cost_is_in_hours_where_no_price_is_known(report: Report) -> None:
    unpriced = dataclasses.replace(
        report, pricing=None, actual=dataclasses.replace(report.actual, usd=None) if report.actual else None
    )
    text = render_markdown(unpriced)
    assert "n/a (hours: 1.500)" in text
    assert (
        "| stream | 20.0 s | 36.0 s | 0.00 s | 340 GFLOP | 30.0 MiB | 60.0 MiB | 30,000 | n/a (hours: 1.000) |" in text
    )


def test_a_store_named_like_markup_stays_text_in_markdown(report: Report) -> None:
    text = render_markdown(dataclasses.replace(report, store="s3://b/a|b*c<script>\n# x"))
    assert text.splitlines()[0] == r"# upgrade: b/a\|b\*c\<script\> \# x"
    assert r"Store: s3://b/a\|b\*c\<script\> \# x" in text


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/prod/gallery", "prod/gallery"),
        ("s3://bucket/gallery/", "bucket/gallery"),
        ("/very/long/path/to/a/quickstart/seed-0/store", "seed-0/store"),
        ("store", "store"),
    ],
)
def test_a_report_is_titled_by_the_name_of_its_store(report: Report, uri: str, name: str) -> None:
    named = dataclasses.replace(report, store=uri)
    assert render_markdown(named).splitlines()[0] == f"# upgrade: {name}"
    assert f"<title>upgrade: {name}</title>" in render_html(named)
    assert uri in render_html(named)


def test_the_console_tells_the_story_and_shows_the_tables(report: Report) -> None:
    text = console_text(report)
    assert "FCT, with side-information" in text
    assert "95.7 %" in text
    assert "What this shows" in text
    assert "side-information" in text
    assert "1.8x" in text
    assert "models came from the cache" in text


def test_a_narrow_console_keeps_the_figures_that_matter(report: Report) -> None:
    text = console_text(report, width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "95.7 %" in text
    assert "…" not in text


def test_names_with_rich_markup_do_not_break_the_console(report: Report) -> None:
    row = dataclasses.replace(report.compatibility[2], gallery="[red]x[/", query="[bold]")
    text = console_text(dataclasses.replace(report, compatibility=(row,), notes=("[/nope]",)))
    assert "[red]x[/" in text
    assert "[/nope]" in text


def test_a_report_of_a_refused_gate_says_that_nothing_was_published(report: Report) -> None:
    assert report.gate is not None
    refused = dataclasses.replace(
        report,
        version=None,
        gate=dataclasses.replace(report.gate, passed=False, reason="Agreement fell.", advice="Bring pairs."),
    )
    text = render_markdown(refused)
    assert "## Gate: REFUSED: nothing was published" in text
    assert "Agreement fell. Bring pairs." in text
    assert "Version none" in text


def test_a_plan_that_spent_nothing_still_renders(report: Report) -> None:
    plan = dataclasses.replace(
        report, stages={}, actual=None, gate=None, compatibility=(), recovered_share={}, saved=None, notes=()
    )
    assert "forecast" in render_markdown(plan)
    assert "forecast" in console_text(plan)
