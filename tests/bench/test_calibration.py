"""Whether a verdict was right, by hand; and one small case judged whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fct_ray.bench.calibration import CalibrationSettings, run_calibration
from fct_ray.bench.calibration_outcomes import CaseOutcome, Difference, Level
from fct_ray.bench.calibration_report import best_of_each, calibration_plot, calibration_table
from fct_ray.bench.cases import registry
from fct_ray.bench.cases.case_files import CaseTask
from fct_ray.bench.cases.latent import LatentSettings, make_latent
from fct_ray.kinds import Verdict

UP = Difference(mean=0.1, low=0.08, high=0.12)
UNCLEAR = Difference(mean=0.01, low=-0.01, high=0.03)
DOWN = Difference(mean=-0.1, low=-0.12, high=-0.08)
OUTCOME = CaseOutcome(
    case="a",
    task=CaseTask.KNOWN_ITEM,
    level=Level.QUERIES,
    evidence="queries",
    verdict=Verdict.UPGRADE,
    way="fused",
    measure="mrr",
    predicted=0.1,
    low=0.05,
    keep=0.5,
    backfill=UP,
    simple=UNCLEAR,
    simple_way="whitened old",
    published=UP,
)


def test_differences_are_paired_and_their_bounds_are_one_sided() -> None:
    difference = Difference.of(np.asarray([1.0, 0.5, 0.5, 1.0]), np.asarray([0.5, 0.5, 0.0, 1.0]))
    error = np.std([0.5, 0, 0.5, 0], ddof=1) / 2
    assert difference.mean == pytest.approx(0.25)
    assert difference.low == pytest.approx(0.25 - 1.645 * error)
    assert difference.high == pytest.approx(0.25 + 1.645 * error)


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({}, True),
        ({"published": DOWN}, False),
        ({"verdict": Verdict.KEEP, "published": None, "backfill": UNCLEAR}, True),
        ({"verdict": Verdict.KEEP, "published": None, "backfill": UP}, False),
        ({"verdict": Verdict.KEEP, "published": None, "backfill": DOWN, "simple": UP}, False),
        ({"verdict": Verdict.BACKFILL, "published": None}, True),
        ({"verdict": Verdict.BACKFILL, "published": None, "backfill": DOWN}, False),
        ({"verdict": Verdict.BACKFILL, "published": None, "simple": UP}, False),
        ({"verdict": Verdict.MORE_EVIDENCE, "published": None}, False),
    ],
)
def test_a_verdict_is_right_if_the_other_queries_bear_it_out(change: dict[str, object], right: bool) -> None:
    assert replace(OUTCOME, **change).is_right is right  # type: ignore[arg-type]


def test_harm_is_what_was_published_below_doing_nothing() -> None:
    assert replace(OUTCOME, published=DOWN).does_harm
    assert not replace(OUTCOME, published=Difference(mean=-0.004, low=-0.02, high=0.01)).does_harm
    assert not replace(OUTCOME, published=None, accepted=DOWN).does_harm


def test_the_table_counts_each_case_by_its_best_evidence() -> None:
    weak = replace(OUTCOME, level=Level.HELD_OUT, verdict=Verdict.MORE_EVIDENCE, published=None, accepted=DOWN)
    assert best_of_each([weak, OUTCOME]) == [OUTCOME]
    table = calibration_table([weak, OUTCOME, replace(OUTCOME, case="b", published=DOWN)])
    assert table.sentence.startswith("By the best evidence that each allows, 1 of 2 verdicts were right. 1 of 3")
    assert [row[8] for row in table.rows] == ["(-0.100)", "+0.100", "-0.100"]
    assert calibration_plot([weak, OUTCOME])[:4] == b"\x89PNG"


@pytest.mark.journey
def test_a_small_case_is_judged_by_the_evidence_asked_for_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = LatentSettings(num_rows=3000, num_pairs=400, num_queries=300, num_classes=20, dimension=64)
    case = registry.Case(about="small", make=lambda name, seed: make_latent(name, replace(small, data_seed=seed)))
    monkeypatch.setattr(registry, "CASES", {"small": case})
    settings = CalibrationSettings(cases=("small",), levels=(Level.QUERIES, Level.LABELS), directory=str(tmp_path))
    outcomes = run_calibration(settings)
    assert [one.level for one in outcomes] == [Level.QUERIES, Level.LABELS]
    by_queries = outcomes[0]
    assert by_queries.verdict is Verdict.UPGRADE
    assert by_queries.published is not None
    assert by_queries.published.mean > 0.02
    assert not any(one.does_harm for one in outcomes)
    assert outcomes[1].published is None  # labels cannot show whether known items are found
    assert run_calibration(settings) == outcomes
