"""How often `doctor` suspects two models, in galleries of which it is known whether there are two.

Owns: which galleries at which share of a second model, and the table. The galleries are those of `mixed_galleries`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from fct_ray.bench.mixed_galleries import BLIND, KINDS, NUM_ROWS
from fct_ray.errors import SettingsError
from fct_ray.evaluation.two_spaces import find_two_spaces
from fct_ray.report.quantities import percent
from fct_ray.report.text_table import Table
from fct_ray.settings import CheckedSettings, Count, PartOrNone, Seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SuspicionSettings(CheckedSettings):
    """Which galleries, and how many of each."""

    kinds: tuple[str, ...] = ()
    """Names of kinds of galleries. None: all."""
    shares: tuple[PartOrNone, ...] = (0.0, 0.01, 0.03, 0.1, 0.3)
    """Shares of the rows by a second model; 0: one model alone."""
    num_seeds: Count = 20
    """Galleries of each kind and share."""
    first_seed: Seed = 1_000
    """The first seed; thresholds were chosen on seeds below 1,000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspicions:
    """What was said of the galleries of one kind."""

    kind: str
    suspected: tuple[int, ...]
    """For each share, of so many galleries."""
    shares: tuple[float, ...]
    num_seeds: int
    wall_s: float
    """Seconds that one gallery took, making it included."""


def run_suspicions(settings: SuspicionSettings) -> list[Suspicions]:
    """Judge every gallery.

    Raises:
        SettingsError: there is no such kind.
    """
    known = {**KINDS, **BLIND}
    unknown = [kind for kind in settings.kinds if kind not in known]
    if unknown:
        raise SettingsError(f"kind {unknown[0]!r}; want one of {', '.join(known)}")
    results = []
    for kind in settings.kinds or known:
        started, counts = time.perf_counter(), []
        for share in settings.shares:
            seeds = range(settings.first_seed, settings.first_seed + settings.num_seeds)
            found = [find_two_spaces(known[kind].make(seed, share, NUM_ROWS), seed=seed) for seed in seeds]
            counts.append(sum(facts is not None and facts.suspected for facts in found))
            logger.info("%s, share %s: %d of %d", kind, share, counts[-1], settings.num_seeds)
        num = len(settings.shares) * settings.num_seeds
        results.append(
            Suspicions(
                kind=kind,
                suspected=tuple(counts),
                shares=settings.shares,
                num_seeds=settings.num_seeds,
                wall_s=(time.perf_counter() - started) / num,
            )
        )
    return results


def suspicions_table(results: list[Suspicions]) -> Table:
    """How many of the galleries of each kind were suspected."""
    shares = results[0].shares if results else ()
    return Table(
        name="suspicions",
        title="Galleries in which two models are suspected",
        sentence=f"Of {results[0].num_seeds if results else 0} galleries each, by the share of rows by a second model.",
        header=("gallery", *("one model" if share == 0 else percent(share) for share in shares), "seconds each"),
        rows=tuple((one.kind, *(str(count) for count in one.suspected), f"{one.wall_s:.1f}") for one in results),
    )
