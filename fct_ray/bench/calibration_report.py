"""What is shown of a calibration: one table, and predicted against actual differences as a plot.

Owns: rows, words and colours. Knows no case and runs nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from fct_ray.bench.calibration_outcomes import CaseOutcome, Difference, Level
from fct_ray.report.text_table import Table

MARKERS = {Level.QUERIES: "o", Level.VIEWS: "s", Level.LABELS: "^", Level.POOLED: "D", Level.HELD_OUT: "x"}


def best_of_each(outcomes: Sequence[CaseOutcome]) -> list[CaseOutcome]:
    """Each case by the strongest evidence that it was judged by."""
    order = list(Level)
    best: dict[str, CaseOutcome] = {}
    for one in sorted(outcomes, key=lambda one: order.index(one.level)):
        best.setdefault(one.case, one)
    return list(best.values())


def calibration_table(outcomes: Sequence[CaseOutcome]) -> Table:
    """A line for each case and kind of evidence."""
    harmful = sum(outcome.does_harm for outcome in outcomes)
    best = best_of_each(outcomes)
    return Table(
        name="calibration",
        title="Verdicts against what then happens",
        sentence=f"By the best evidence that each allows, {sum(one.is_right for one in best)} of {len(best)} verdicts were "
        f"right. {harmful} of {len(outcomes)} judgements published harm. Predicted: the difference of the deciding "
        "measure to doing nothing, as the gate saw it. All others are differences in MRR (known items) or mAP (similar "
        "items) over queries that did not judge; in brackets what --accept provisional published.",
        header=(
            "case", "task", "evidence", "verdict", "right", "best way", "predicted", "at least", "published",
            "full backfill", "best simple way", "doing nothing", "R@1: nothing, published, backfill",
        ),
        rows=tuple(_row(one) for one in outcomes),
    )  # fmt: skip


def calibration_plot(outcomes: Sequence[CaseOutcome]) -> bytes:
    """PNG: predicted against actual differences of what was published, freely or because it was accepted."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    most = 0.1
    for level, marker in MARKERS.items():
        shown = [(one, one.published or one.accepted) for one in outcomes if one.level is level]
        points = [(one, actual) for one, actual in shown if actual is not None]
        if not points:
            continue
        axes.errorbar(
            [one.predicted for one, _ in points],
            [actual.mean for _, actual in points],
            xerr=[[max(0.0, one.predicted - one.low) for one, _ in points], [0.0] * len(points)],
            yerr=[
                [actual.mean - actual.low for _, actual in points],
                [actual.high - actual.mean for _, actual in points],
            ],
            fmt=marker,
            label=level.value,
            alpha=0.7,
        )
        for one, actual in points:
            axes.annotate(one.case, (one.predicted, actual.mean), textcoords="offset points", xytext=(4, 4), fontsize=6)
        most = max(most, *(abs(actual.mean) for _, actual in points), *(one.predicted for one, _ in points))
    axes.plot([0, most], [0, most], "--", color="grey")
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set(xlabel="predicted difference, and its lower bound", ylabel="actual difference to doing nothing")
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _row(one: CaseOutcome) -> tuple[str, ...]:
    accepted = "" if one.accepted is None else f"({one.accepted.mean:+.3f})"
    return (
        one.case,
        one.task.value,
        one.evidence,
        one.verdict.value,
        "yes" if one.is_right else "no",
        one.way,
        f"{one.predicted:+.3f} {one.measure}",
        f"{one.low:+.3f}",
        accepted if one.published is None else _shown(one.published),
        _shown(one.backfill),
        f"{_shown(one.simple)} {one.simple_way}",
        f"{one.keep:.3f}",
        ", ".join(
            f"{one.recall_at_1[name]:.3f}" for name in ("keep", "published", "backfill") if name in one.recall_at_1
        ),
    )


def _shown(difference: Difference) -> str:
    return f"{difference.mean:+.3f}"
