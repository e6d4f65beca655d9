"""What became of a case that was judged by one kind of evidence, and whether the verdict was right.

Owns: the values, and that decision, which is pure. Differences are against doing nothing, in the measure of the case's
task (MRR for known items, mAP for similar ones), over the queries that did not judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseTask
from fct_ray.kinds import Verdict

HARM = -0.005
"""A difference below this counts as harm: half a point, about the noise of the queries that measure it."""
ONE_SIDED_95 = 1.645


class Level(StrEnum):
    """By which evidence a case is judged, the strongest first."""

    QUERIES = "queries"
    """Half of its real queries."""
    VIEWS = "views"
    """Pseudo-queries: what follows the indexed part of a text."""
    LABELS = "labels"
    """Labels of the gallery."""
    POOLED = "pooled"
    """No labels; the embeddings that the job asks for are brought."""
    HELD_OUT = "held-out"
    """Pairs alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Mean of paired differences, and one-sided 95 % bounds by the normal approximation."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(better_Q: npt.NDArray[np.float64], worse_Q: npt.NDArray[np.float64]) -> Difference:
        """The difference of two ways to answer the same queries [Q]."""
        differences_Q = better_Q - worse_Q
        error = float(differences_Q.std(ddof=1) / np.sqrt(len(differences_Q)))
        mean = float(differences_Q.mean())
        return Difference(mean=mean, low=mean - ONE_SIDED_95 * error, high=mean + ONE_SIDED_95 * error)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOutcome:
    """One case, judged by one kind of evidence."""

    case: str
    task: CaseTask
    level: Level
    evidence: str
    """The kind of evidence that decided, as the verdict names it."""
    verdict: Verdict
    way: str
    """The best way, published or not."""
    measure: str
    """The deciding measure."""
    predicted: float
    """Difference of the deciding measure to doing nothing, as the gate saw it."""
    low: float
    """Its lower bound."""
    keep: float
    """What doing nothing gives the queries that did not judge."""
    backfill: Difference
    """A full backfill."""
    simple: Difference
    """The best of the simple ways that need no fitted network (whitened, joined, linear), which a verdict should not miss."""
    simple_way: str
    published: Difference | None
    """What was published; None where nothing was."""
    accepted: Difference | None = None
    """What `--accept provisional` published where more evidence was asked for."""
    recall_at_1: dict[str, float] = field(default_factory=dict)
    """The share of queries whose first result is relevant, where known items are looked for: by doing nothing ("keep"), a
    full backfill ("backfill") and what was published ("published")."""

    @property
    def does_harm(self) -> bool:
        """Whether what was published, without being told to, finds less than doing nothing."""
        return self.published is not None and self.published.mean < HARM

    @property
    def is_right(self) -> bool:
        """Whether the queries that did not judge bear the verdict out.

        Published: it is no worse than doing nothing. Keep: they do not prove the new model or a simple way better.
        Backfill: the new model may be better by them, and no simple way is proven better. A demand for more evidence
        decides nothing, and is never right.
        """
        if self.verdict is Verdict.UPGRADE:
            return self.published is not None and self.published.mean >= 0
        if self.verdict is Verdict.MORE_EVIDENCE or self.simple.low > 0:
            return False
        return self.backfill.low <= 0 if self.verdict is Verdict.KEEP else self.backfill.high > 0
