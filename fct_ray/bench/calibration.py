"""Verdicts against what then happens: upgrades of galleries whose truth is known, judged by every kind of evidence.

    half of a case's queries judge --> verdict, way, predicted difference
    the other half searches what was published --> actual difference, harm

Owns: running the cases, and the comparison. The galleries are `cases`, the verdicts those of a real upgrade.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from fct_ray.bench.cases.case_files import CaseData, Queries, read_case
from fct_ray.bench.cases.registry import CASES, make_case
from fct_ray.bench.cases.truth import queries_of, search
from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected
from fct_ray.judgements import GateResult
from fct_ray.kinds import Accept, QueryRole, Task, Verdict
from fct_ray.report.text_table import Table
from fct_ray.settings import CheckedSettings, Seed
from fct_ray.sources.data_directory import data_directory
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import vector_array
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

FloatArray = npt.NDArray[np.float32]
HARM = -0.005
"""A difference in MRR below this counts as harm: half a point, about the noise of the queries that measure it."""


class Level(StrEnum):
    """By which evidence a case is judged."""

    QUERIES = "queries"
    """Half of its real queries."""
    ITEMS = "items"
    """Whatever there is without queries, for similar items: labels, else held-out pairs."""
    PROVISIONAL = "provisional"
    """The same, published although it cannot show whether known items are found."""


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(CheckedSettings):
    """Verdicts against what then happens."""

    cases: tuple[str, ...] = tuple(CASES)
    """Names of cases; those that are not there yet are made (texts need the extra `cases`)."""
    levels: tuple[Level, ...] = (Level.QUERIES, Level.ITEMS)
    """Kinds of evidence that each is judged by."""
    directory: str | None = None
    """Where the cases lie. None: `cases` below the data directory."""
    seed: Seed = 0
    """Which queries judge, and seed of the upgrades."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOutcome:
    """One case, judged by one kind of evidence."""

    case: str
    level: Level
    evidence: str
    verdict: Verdict
    way: str
    """The best way, published or not."""
    measure: str
    predicted: float
    """Difference of the deciding measure to doing nothing, as the gate saw it."""
    low: float
    """Its lower bound."""
    keep_mrr: float
    """What doing nothing gives the queries that did not judge."""
    backfill_mrr: float
    """A full backfill."""
    published_mrr: float | None
    """What was published; None where nothing was."""

    @property
    def does_harm(self) -> bool:
        """Whether what was published finds less than doing nothing."""
        return self.published_mrr is not None and self.published_mrr - self.keep_mrr < HARM


def run_calibration(settings: CalibrationSettings) -> list[CaseOutcome]:
    """Judge every case by every kind of evidence, one after another.

    Raises:
        FctRayError: a case cannot be made, or an upgrade failed.
    """
    root = data_directory() / "cases" if settings.directory is None else Path(settings.directory)
    outcomes = []
    with connected(ClusterSettings()) as size:
        for name in settings.cases:
            directory = root / name
            case = read_case(directory if (directory / "case.json").exists() else make_case(name, root))
            with tempfile.TemporaryDirectory(prefix="fct-ray-case-") as scratch:
                outcomes += list(_of_case(case, directory, Path(scratch), settings, size))
    return outcomes


def calibration_table(outcomes: Sequence[CaseOutcome]) -> Table:
    """A line for each case and kind of evidence."""
    harmful = sum(outcome.does_harm for outcome in outcomes)
    return Table(
        name="calibration",
        title="Verdicts against what then happens",
        sentence=f"{harmful} of {len(outcomes)} did harm. Predicted is the difference of the deciding measure to doing "
        "nothing, as the gate saw it; MRR is measured with queries that did not judge.",
        header=("case", "evidence", "verdict", "best way", "predicted", "at least", "keep", "published", "backfill"),
        rows=tuple(
            (
                outcome.case,
                outcome.evidence,
                outcome.verdict.value,
                outcome.way,
                f"{outcome.predicted:+.3f} {outcome.measure}",
                f"{outcome.low:+.3f}",
                f"{outcome.keep_mrr:.3f}",
                "" if outcome.published_mrr is None else f"{outcome.published_mrr:.3f}",
                f"{outcome.backfill_mrr:.3f}",
            )
            for outcome in outcomes
        ),
    )


def calibration_plot(outcomes: Sequence[CaseOutcome]) -> bytes:
    """PNG: predicted against actual difference in MRR, for what was published by real queries."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    shown = [one for one in outcomes if one.published_mrr is not None and one.measure == "mrr"]
    actual = [(one.published_mrr or 0.0) - one.keep_mrr for one in shown]
    axes.errorbar(
        [one.predicted for one in shown],
        actual,
        xerr=[[one.predicted - one.low for one in shown], [0.0] * len(shown)],
        fmt="o",
    )
    for one, y in zip(shown, actual, strict=True):
        axes.annotate(one.case, (one.predicted, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    most = max([0.1, *(abs(value) for value in actual), *(one.predicted for one in shown)])
    axes.plot([0, most], [0, most], "--", color="grey")
    axes.set(xlabel="predicted difference in MRR, and its lower bound", ylabel="actual difference in MRR")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _of_case(
    case: CaseData, directory: Path, scratch: Path, settings: CalibrationSettings, size: ClusterSize
) -> Iterator[CaseOutcome]:
    queries = queries_of(case)
    judging_Q = np.random.default_rng(settings.seed).permutation(len(queries.relevant)) % 2 == 0
    file = scratch / "queries.parquet"
    pq.write_table(_queries_table(queries, np.flatnonzero(judging_Q)), file)
    rest = np.flatnonzero(~judging_Q)
    relevant = [queries.relevant[place] for place in rest]
    keep = search(queries.old_QO[rest], case.old_NO, relevant).mrr
    backfill = search(queries.new_QW[rest], case.new_NW, relevant).mrr
    for level in settings.levels:
        store = scratch / level
        side = None if case.side_NS is None else "side-v1"
        adopt = AdoptSettings(store=str(store), embeddings=str(directory / "gallery"), encoder="old-v1", side=side)
        run_adopt(plan_adopt(adopt))
        upgrade = UpgradeSettings(
            store=str(store),
            encoder="new-v1",
            pairs=str(directory / "pairs.parquet"),
            queries=str(file) if level is Level.QUERIES else None,
            task=Task.SIMILAR if level is Level.ITEMS else None,
            accept=Accept.PROVISIONAL if level is Level.PROVISIONAL else Accept.PROVEN,
            seed=settings.seed,
        )
        outcome = run_upgrade(plan_upgrade(upgrade, None, size), size)
        assert outcome.judged is not None  # noqa: S101 (a new store was judged just now)
        found = None if outcome.published is None else _published_mrr(str(store), queries, rest, relevant)
        yield _outcome(case.name, level, outcome.judged.result, keep=keep, backfill=backfill, published=found)


def _outcome(
    name: str, level: Level, gate: GateResult, *, keep: float, backfill: float, published: float | None
) -> CaseOutcome:
    first = gate.checks[0]
    return CaseOutcome(
        case=name,
        level=level,
        evidence=gate.evidence.value,
        verdict=gate.verdict,
        way=f"{gate.ways[0].method} {gate.ways[0].variant}".strip(),
        measure=first.measure,
        predicted=first.margin,
        low=first.margin_low,
        keep_mrr=keep,
        backfill_mrr=backfill,
        published_mrr=published,
    )


def _published_mrr(
    store_uri: str, queries: Queries, rest: npt.NDArray[np.int64], relevant: Sequence[Sequence[int]]
) -> float:
    """MRR of what was published, by the searcher that users have: the first 100 results count."""
    vectors = {QueryRole.OLD: queries.old_QO, QueryRole.NEW: queries.new_QW, QueryRole.SIDE: queries.side_QS}
    joined = Store(store_uri).manifest().queries
    searcher = open_searcher(store_uri, None if joined else "new-v1")
    roles = [query.role for query in joined] or [QueryRole.NEW]
    given: dict[str, npt.ArrayLike] = {
        role.value: array[rest] for role, array in vectors.items() if role in roles and array is not None
    }
    _, ids_QK = searcher.search(given, k=100)
    ranks = [
        next((rank for rank, item in enumerate(ids, 1) if item in wanted), None)
        for ids, wanted in zip(ids_QK.tolist(), relevant, strict=True)
    ]
    return float(np.mean([0.0 if rank is None else 1 / rank for rank in ranks]))


def _queries_table(queries: Queries, chosen: npt.NDArray[np.int64]) -> pa.Table:
    columns = {
        "query": pa.array(chosen),
        "old": vector_array(queries.old_QO[chosen], "float32"),
        "new": vector_array(queries.new_QW[chosen], "float32"),
        "relevant": pa.array([list(queries.relevant[place]) for place in chosen], pa.list_(pa.int64())),
    }
    if queries.side_QS is not None:
        columns["side"] = vector_array(queries.side_QS[chosen], "float32")
    return pa.table(columns)
