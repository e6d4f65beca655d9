"""The report's plots as SVG text: what h recovers, where the cost went, how far off the forecast was.

Owns: what is drawn. Made with matplotlib's own figure objects and SVG backend: no display, no pyplot state, no
dates or random ids, so that the same report gives the same bytes. Shares are drawn in percent.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fct_ray.kinds import Method
from fct_ray.report.content import Report
from fct_ray.report.explanations import METHOD_TITLES, REFERENCES, ordered_rows
from fct_ray.report.quantities import duration, money, percent

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fct_ray",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# Okabe and Ito's palette, which colour-blind people can tell apart.
_BAR, _SIDE_BAR, _OLD_LINE, _NEW_LINE = "#56B4E9", "#0072B2", "#D55E00", "#009E73"
_LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One plot: SVG text without XML declaration, and what it shows in words."""

    name: str
    svg: str
    caption: str


def plots_of(report: Report) -> tuple[Plot, ...]:
    """All plots that apply."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of its cache of fonts, which nobody asked for
    with mpl.rc_context(_STYLE):
        plots = (compatibility_plot(report), stage_plot(report), forecast_plot(report))
    return tuple(plot for plot in plots if plot is not None)


def bars(
    *drawings: tuple[str, Sequence[float], Sequence[float], str, str, str],
) -> tuple[Plot, ...]:
    """Bars: each drawing is (name, places, heights, label of places, label of heights, caption)."""
    plots = []
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with mpl.rc_context(_STYLE):
        for name, places, heights, across, up, caption in drawings:
            figure = Figure(figsize=(9.5, 2.6), layout="constrained")
            axes = figure.subplots()
            axes.bar(places, heights, width=places[1] - places[0] if len(places) > 1 else 1.0, color=_SIDE_BAR)
            axes.set(xlabel=across, ylabel=up)
            plots.append(Plot(name=name, svg=_svg(figure, name), caption=caption))
    return tuple(plots)


def compatibility_plot(report: Report) -> Plot | None:
    """Top-1 and mAP of every method as bars, with old/old and new/new as reference lines."""
    rows = ordered_rows(report.compatibility)
    bars = [row for row in reversed(rows) if row.method not in REFERENCES]
    if not bars:
        return None
    references = {row.method: row for row in rows if row.method in REFERENCES}
    figure = Figure(figsize=(9.5, 1.5 + 0.42 * len(bars)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for axes, measure, title in zip(panels, ("top1", "map"), ("top-1", "mAP"), strict=True):
        shares = [getattr(row, measure) for row in bars]
        colours = [_SIDE_BAR if row.side_information else _BAR for row in bars]
        drawn = axes.barh([METHOD_TITLES[row.method] for row in bars], [share * 100 for share in shares], color=colours)
        axes.bar_label(drawn, labels=[percent(share) for share in shares], padding=3, fontsize=9, bbox=_LABEL)
        for method, colour, label in (
            (Method.OLD_OLD, _OLD_LINE, "doing nothing (old/old)"),
            (Method.NEW_NEW, _NEW_LINE, "full backfill (new/new)"),
        ):
            if method in references:
                axes.axvline(getattr(references[method], measure) * 100, color=colour, linestyle="--", label=label)
        axes.set(title=title, xlabel="percent", xlim=(0, 112))
    if references:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return Plot(
        name="compatibility",
        svg=_svg(figure, "compatibility"),
        caption="Retrieval of every method between the two reference lines: doing nothing, and a full backfill. Dark "
        "bars use side-information.",
    )


def stage_plot(report: Report) -> Plot | None:
    """What every stage cost, in dollars where prices are known, otherwise in node time or busy CPU and GPU time."""
    stages = report.ordered_stages()
    usd = {name: report.stage_usd(name) or 0.0 for name, _ in stages}
    node_s = {name: usage.node_s for name, usage in stages}
    busy_s = {name: usage.busy_cpu_s + usage.busy_gpu_s for name, usage in stages}
    if any(usd.values()):
        values, what, texts = usd, "US dollars", {name: money(value, None) for name, value in usd.items()}
    elif any(node_s.values()):
        values, what, texts = node_s, "node-seconds", {name: duration(value) for name, value in node_s.items()}
    elif any(busy_s.values()):
        values, what, texts = busy_s, "busy seconds", {name: duration(value) for name, value in busy_s.items()}
    else:
        return None
    names = list(reversed(values))
    figure = Figure(figsize=(9.5, 1.0 + 0.36 * len(names)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(names, [values[name] for name in names], color=_SIDE_BAR)
    axes.bar_label(drawn, labels=[texts[name] for name in names], padding=3, fontsize=9)
    axes.set(title="Cost per stage", xlabel=what)
    axes.margins(x=0.14)
    return Plot(name="stages", svg=_svg(figure, "stages"), caption=f"Where the cost went, in {what} per stage.")


def forecast_plot(report: Report) -> Plot | None:
    """Forecast beside actual: wall time, node time and money, each on its own scale."""
    expected, actual = report.forecast, report.actual
    if expected is None or actual is None:
        return None
    panels: list[tuple[str, float, float, tuple[str, str]]] = [
        ("wall time", expected.wall_s, actual.wall_s, (duration(expected.wall_s), duration(actual.wall_s))),
        ("node time", expected.node_s, actual.node_s, (duration(expected.node_s), duration(actual.node_s))),
    ]
    if expected.usd is not None and actual.usd is not None:
        panels.append(("cost", expected.usd, actual.usd, (money(expected.usd, None), money(actual.usd, None))))
    figure = Figure(figsize=(9.5, 2.6), layout="constrained")
    for place, (title, before, after, texts) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        drawn = axes.bar(["forecast", "actual"], [before, after], color=[_BAR, _SIDE_BAR], width=0.6)
        axes.bar_label(drawn, labels=texts, padding=2, fontsize=9)
        axes.set(title=title, yticks=[])
        axes.margins(y=0.18)
    return Plot(name="forecast", svg=_svg(figure, "forecast"), caption="What the plan expected, and what the run took.")


def _svg(figure: Figure, name: str) -> str:
    """SVG for use inside HTML: no XML declaration, no metadata, ids that no other plot of the page has."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
