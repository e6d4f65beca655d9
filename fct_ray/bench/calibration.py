"""Verdicts against what then happens: upgrades of galleries whose truth is known, judged by every kind of evidence.

    half of a case's queries judge (or labels, other views, a pool, held-out pairs) --> verdict, way, predicted difference
    the other half searches what was published --> actual difference

Owns: which cases are judged by what, and that a judged one is not judged again. One judgement is `judged_case`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fct_ray.bench.calibration_outcomes import CaseOutcome, Level
from fct_ray.bench.cases.case_files import read_case
from fct_ray.bench.cases.registry import CASES, make_case
from fct_ray.bench.judged_case import JudgedCase, judge_case, levels_of
from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.engine.progress import bar
from fct_ray.settings import CheckedSettings, Seed
from fct_ray.storage import documents


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(CheckedSettings):
    """Verdicts against what then happens."""

    cases: tuple[str, ...] = tuple(CASES)
    """Names of cases; those that are not there yet are made (texts need the extra `cases`)."""
    levels: tuple[Level, ...] = tuple(Level)
    """Kinds of evidence that each is judged by, of those that it allows."""
    directory: str = ".data/cases"
    """Where the cases lie, and what was measured of each: a second run goes on."""
    sample: Seed = 0
    """Which sample of queries and pairs a case has (synthetic ones: of everything)."""
    seed: Seed = 0
    """Which queries judge, and seed of the upgrades."""


def run_calibration(settings: CalibrationSettings) -> list[CaseOutcome]:
    """Judge every case by every kind of evidence that it allows, one after another.

    Raises:
        FctRayError: a case cannot be made, or an upgrade failed.
    """
    root, outcomes = Path(settings.directory), []
    with connected(ClusterSettings()) as size, bar(len(settings.cases), "judge", "case") as shown:
        for name in settings.cases:
            directory = make_case(name, root, settings.sample)
            case, judged = read_case(directory), root / "judged" / f"{directory.name}-by-{settings.seed}"
            for level in (level for level in levels_of(case, directory) if level in settings.levels):
                path = judged / f"{level.value}.json"
                if not path.is_file():
                    with tempfile.TemporaryDirectory(prefix="fct-ray-case-") as scratch:
                        job = JudgedCase(
                            case=case,
                            directory=directory.absolute(),
                            scratch=Path(scratch),
                            fits=judged.absolute() / "fits",
                            seed=settings.seed,
                        )
                        outcome = judge_case(job, level, size)
                    judged.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(documents.dump(outcome))
                outcomes.append(documents.load(CaseOutcome, path.read_bytes(), str(path)))
            shown.update(1)
    return outcomes
