"""Whether the vectors of one gallery look as if they came from two models.

Vectors of two models cannot be compared, and an index that holds both finds nothing across. They differ from two topics,
or two classes, of one model in three ways, and all three must hold before anything is said:

    crossing     hardly a vector of the smaller group has a nearest neighbour in the larger one
    recognised   how near rows differ from each other tells the group, in neighbourhoods that the groups' Gaussians have not
                 seen (`subspace_mixture`), by several nats a row: near rows differ along the same axes in all topics and
                 clusters of a model, and along others by another model
    diversity    the smaller group has as much variety as equally many rows of the larger one: a class, or a few
                 clusters, has less

What it cannot see: a second model along whose axes near rows differ as along the first one's (a rotation of a space
without preferred directions; the same model with another mean); one with fewer than LEAST_MEMBERS of the rows that are
judged. It takes a few seconds of one core for 3,000 rows.
Array legend: N rows, D numbers of a vector, R principal axes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fct_ray.evaluation.gallery_statistics import unit
from fct_ray.evaluation.neighbourhoods import crossing_shares, nearest, small_groups, touching
from fct_ray.evaluation.subspace_mixture import candidates, group_moments, principal_rows, recognised
from fct_ray.gallery_facts import SpacesFacts

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
MOST_ROWS, LEAST_ROWS = 3_000, 300
"""Rows that are judged: a sample of more, and nothing is said of fewer."""
NEIGHBOURS, ROWS_PER_GROUP, MOST_GROUPS = 10, 25, 120
MOST_CROSSING, LEAST_RECOGNISED, LEAST_DIVERSITY, LEAST_CONTRAST = 0.03, 0.82, 0.5, 9.0
LEAST_MEMBERS, REFINEMENTS, WORTH_A_LOOK = 25, 3, 0.7
CERTAIN, HOPELESS = 0.5, 0.5
"""A split that is so clearly one of two spaces is not bettered by looking at others; a split whose neighbourhoods are
recognised so rarely by how their rows differ is not looked at further."""
_NOTHING = SpacesFacts(
    num_rows=0,
    suspected=False,
    share=0.0,
    crossing=1.0,
    recognised=0.0,
    contrast=0.0,
    diversity=0.0,
    placed=0.0,
    objects=0,
)


def find_two_spaces(
    vectors_ND: FloatArray, places_N2: npt.NDArray[np.int64] | None = None, *, seed: int
) -> SpacesFacts | None:
    """The split of the rows that looks most like two spaces, and whether it is one; None of too few rows.

    `places_N2` has (object, position in it) of each row: where the groups lie in the objects. Rows must be finite, not zero.
    """
    rng = np.random.default_rng(seed)
    chosen = _distinct(vectors_ND, rng)
    if len(chosen) < LEAST_ROWS:
        return None
    sample = _Sample(vectors_ND[chosen], rng)
    if not sample.rows_NR.shape[1]:
        return None
    best, best_N = _NOTHING, np.zeros(len(chosen), bool)
    for member_N in candidates(sample.whitened_NR, sample.neighbours_NK, rng):
        for _ in range(REFINEMENTS):
            facts, better_N = sample.judged(member_N, best)
            if _likeness(facts) > _likeness(best):
                best, best_N = facts, member_N
            if better_N is None or (better_N == member_N).all():
                break
            member_N = ~better_N if better_N.mean() > 0.5 else better_N  # noqa: PLW2901 (the same split, refined)
        if _likeness(best) >= CERTAIN:
            break
    placed, num_objects = (0.0, 0) if places_N2 is None else _placed(best_N, places_N2[chosen])
    return replace(best, num_rows=len(chosen), suspected=_likeness(best) >= 0, placed=placed, objects=num_objects)


class _Sample:
    """The rows that are judged, with all that does not depend on how they are split."""

    def __init__(self, vectors_ND: FloatArray, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rows_NR, self.whitened_NR = principal_rows(vectors_ND)
        if self.rows_NR.shape[1]:
            self.neighbours_NK = nearest(unit(self.rows_NR), NEIGHBOURS)
            num_groups = int(np.clip(len(vectors_ND) // ROWS_PER_GROUP, 10, MOST_GROUPS))
            self.group_N = small_groups(self.rows_NR, num_groups, rng)
            self.touching_CC = touching(self.group_N, self.neighbours_NK)
            self.place = group_moments(self.whitened_NR, self.group_N)
            # How rows differ from their neighbours: where the neighbourhood lies, its topic or class, is gone.
            means_CR = self.place.sums_CR / self.place.counts_C[:, None]
            self.local = group_moments((self.whitened_NR - means_CR[self.group_N]).astype(np.float32), self.group_N)

    def judged(self, member_N: Mask, best: SpacesFacts) -> tuple[SpacesFacts, Mask | None]:
        """The signs of a split, and a refined one; the dearest sign only where it could still be the best split."""
        facts = replace(_NOTHING, share=float(member_N.mean()))
        if member_N.sum() < LEAST_MEMBERS:
            return facts, None
        crossing = crossing_shares(self.neighbours_NK, member_N)
        facts = replace(facts, crossing=crossing, recognised=1.0, contrast=2 * LEAST_CONTRAST)
        if crossing > 2 * MOST_CROSSING:
            return replace(facts, recognised=0.0, contrast=0.0), None
        facts = replace(facts, diversity=diversity(self.rows_NR, member_N, self.rng))
        if facts.diversity < WORTH_A_LOOK * LEAST_DIVERSITY or _likeness(facts) <= _likeness(best):
            return replace(facts, recognised=0.0, contrast=0.0), None
        share, contrast, _ = recognised(self.local, member_N, self.group_N, self.touching_CC)
        facts = replace(facts, recognised=share, contrast=contrast)
        if share < HOPELESS:
            return facts, None
        return facts, recognised(self.place, member_N, self.group_N, self.touching_CC)[2]


def diversity(rows_NR: FloatArray, member_N: Mask, rng: np.random.Generator) -> float:
    """Coding rate of the group over that of equally many other rows: log2(1 + variance / grain), summed over axes.

    The grain is a quarter of what an effective axis of the other rows has, so axes with noise alone count little.
    """
    members_NR, others_NR = rows_NR[member_N], rows_NR[~member_N]
    num = min(len(members_NR), len(others_NR))
    rates = []
    for _ in range(3):
        drawn = _variances(others_NR[rng.permutation(len(others_NR))[:num]])
        grain = 0.25 * np.square(drawn).sum() / drawn.sum()
        rates.append(_rate(_variances(members_NR), grain) / max(_rate(drawn, grain), 1e-9))
    return float(np.mean(rates))


def _variances(rows_NR: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(rows_NR.T.astype(np.float64)))), 0))


def _rate(variances_R: npt.NDArray[np.float64], grain: float) -> float:
    return float(np.log2(1 + variances_R / grain).sum())


def _likeness(facts: SpacesFacts) -> float:
    """How far the worst of the signs is above what it must be, as a part of its range; 0 or more is a suspicion."""
    return min(
        (MOST_CROSSING - facts.crossing) / MOST_CROSSING,
        (facts.recognised - LEAST_RECOGNISED) / (1 - LEAST_RECOGNISED),
        (facts.contrast - LEAST_CONTRAST) / LEAST_CONTRAST,
        (facts.diversity - LEAST_DIVERSITY) / LEAST_DIVERSITY,
    )


def _distinct(vectors_ND: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Positions of at most MOST_ROWS random rows, equal rows once: copies would be each other's neighbours."""
    chosen = np.sort(rng.permutation(len(vectors_ND))[: 2 * MOST_ROWS])
    factors_D = rng.integers(1, 2**62, vectors_ND.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    words_ND = np.ascontiguousarray(vectors_ND[chosen] + np.float32(0)).view(np.uint32).astype(np.uint64)
    _, first = np.unique(words_ND @ factors_D, return_index=True)
    return np.sort(rng.permutation(chosen[first])[:MOST_ROWS])


def _placed(member_N: Mask, places_N2: npt.NDArray[np.int64]) -> tuple[float, int]:
    """How often two rows that follow each other are of one group, from 0 (as by chance) to 1; objects nearly all members."""
    order = np.lexsort((places_N2[:, 1], places_N2[:, 0]))
    ordered_N, share = member_N[order], float(member_N.mean())
    by_chance = share**2 + (1 - share) ** 2
    same = float((ordered_N[1:] == ordered_N[:-1]).mean())
    objects = np.unique(places_N2[:, 0], return_inverse=True)[1]
    rows, members = np.bincount(objects), np.bincount(objects, member_N)
    return max((same - by_chance) / (1 - by_chance), 0.0), int(((rows >= 5) & (members >= 0.9 * rows)).sum())
