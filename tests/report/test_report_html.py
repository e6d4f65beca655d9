"""report.html: self-contained, safe, and really shown by a browser."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fct_ray.report.content import Report
from fct_ray.report.html_file import render_html
from fct_ray.report.plots import plots_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</title><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id" and value:
                self.ids[value] += 1
            if name.startswith("on"):
                self.handlers.append(name)


def tags_of(html: str) -> _Tags:
    parser = _Tags()
    parser.feed(html)
    return parser


def hostile(report: Report) -> Report:
    row = dataclasses.replace(report.compatibility[2], query=HOSTILE, gallery=HOSTILE)
    return dataclasses.replace(
        report,
        job=HOSTILE,
        store=HOSTILE,
        run=HOSTILE,
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE},
        stages={HOSTILE: report.stages["stream"]},
        compatibility=(*report.compatibility, row),
    )


def test_the_page_refers_to_nothing_outside_itself_and_runs_no_script(report: Report) -> None:
    html = render_html(report)
    assert "Content-Security-Policy" in html
    assert not re.search(r'(src|href)="(?!#)', html.replace('xlink:href="#', ""))
    assert not {"script", "img", "link", "iframe"} & set(tags_of(html).tags)


def test_names_from_outside_cannot_become_markup(report: Report) -> None:
    parser = tags_of(render_html(hostile(report)))
    assert not {"script", "img"} & set(parser.tags)
    assert parser.handlers == []
    assert parser.tags["title"] == 1


def test_no_two_elements_share_an_id(report: Report) -> None:
    assert [name for name, times in tags_of(render_html(report)).ids.items() if times > 1] == []


def test_there_is_a_plot_for_quality_for_cost_and_for_the_forecast(report: Report) -> None:
    plots = {plot.name: plot for plot in plots_of(report)}
    assert set(plots) == {"compatibility", "stages", "forecast"}
    for plot in plots.values():
        ET.fromstring(plot.svg)  # noqa: S314  (our own SVG: is it well-formed?)
    words = plots["compatibility"].svg
    assert "doing nothing (old/old)" in words
    assert "full backfill (new/new)" in words
    assert "95.7 %" not in words  # recovered shares are in the table, the bars are mAP
    assert "88.3 %" in words
    assert "US dollars" in plots["stages"].svg


def test_references_are_lines_and_not_bars(report: Report) -> None:
    svg = plots_of(report)[0].svg
    assert "new queries on new gallery" not in svg
    assert "FCT, with side-information" in svg


def test_the_cost_plot_falls_back_to_time_without_a_price(report: Report) -> None:
    plots = {plot.name: plot for plot in plots_of(dataclasses.replace(report, pricing=None))}
    assert "node-seconds" in plots["stages"].svg


def test_plots_that_have_nothing_to_show_are_left_out(report: Report) -> None:
    bare = dataclasses.replace(report, compatibility=(), stages={}, forecast=None)
    assert plots_of(bare) == ()
    assert "<figure" not in render_html(bare)


def test_the_same_report_is_the_same_page(report: Report) -> None:
    assert render_html(report) == render_html(report)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
def test_chromium_shows_the_tables_and_plots_and_runs_nothing(report: Report, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render_html(hostile(report)), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dom = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert tags_of(dom).tags["table"] == 5
    assert tags_of(dom).tags["figure"] == 3
    assert "<title>owned" not in dom
    subprocess.run(
        [*command, "--window-size=1100,1400", f"--screenshot={shot}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 20_000
