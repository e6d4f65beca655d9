"""The gate: may this version be published? A decision over measured numbers of held-out pairs.

Owns: the bars, their confidence bounds, the choice among candidates, the sentences that explain it. Knows no
embeddings and no models: per-query measures come from elsewhere, all over the same held-out queries in the same
order, so that differences are paired.

How it decides. The bar is doing nothing: old queries among old embeddings. A candidate clears a measure when the
one-sided 95 % lower bound of its mean paired difference to the bar is above zero (or above minus the tolerance). It
must clear *every* measure given. Requiring all of several tests keeps the error of publishing a harmful version at
5 % without a correction (intersection-union test, Berger 1982).

Two honest limits. The best candidate is chosen on the pairs that judge it: the mean of the best of m equal
candidates is too high by at most 1.03 standard errors of their differences for m = 4, small because candidates
share their queries and rise and fall together. Queries share one gallery, so they are not quite independent.

Shapes: Q held-out queries. Measures are shares of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fct_ray.errors import SettingsError
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.gate_texts import advice_text, reason_text
from fct_ray.values import GateCheck, GateResult, Method, QueryScores

AGREEMENT = "agreement"
MAP = "map"
SIMPLEST_FIRST = (Method.LINEAR_NOSIDE, Method.LINEAR_SIDE, Method.FCT_NOSIDE, Method.FCT_SIDE)
"""The candidates; ties go to the earlier: fewer parameters, then fewer inputs."""
TIE_MARGIN = 0.001
"""Means closer than a tenth of a point are a tie: less than a change of seed moves them."""
MAX_PRECISION_LOSS = 0.005
"""Half a point of agreement: what speed may cost unasked. The bars themselves hold in any precision."""
_Z95 = NormalDist().inv_cdf(0.95)
_LEAST_DIFFERENCE = -1.0


def lower_bound(differences_Q: npt.ArrayLike) -> tuple[float, float]:
    """Mean and its one-sided 95 % lower bound, float [Q] -> (mean, mean - t * sd / sqrt(Q)).

    Student's t with Q - 1 degrees of freedom through the expansion of Abramowitz and Stegun 26.7.5 (within 0.002 of the
    table from 5 degrees on). With fewer than two differences the bound is -1, the worst that shares can differ.

    Examples:
        >>> mean, low = lower_bound([0.1, 0.3, 0.2, 0.4] * 10)
        >>> round(mean, 3), round(low, 3)
        (0.25, 0.22)
    """
    values_Q = np.asarray(differences_Q, dtype=np.float64)
    count = values_Q.size
    mean = float(values_Q.mean()) if count else 0.0
    if count < 2:
        return mean, _LEAST_DIFFERENCE
    standard_error = float(values_Q.std(ddof=1)) / math.sqrt(count)
    return mean, mean - t_95(count - 1) * standard_error


def t_95(freedom: int) -> float:
    """The 95 % quantile of Student's t distribution with `freedom` degrees of freedom (approximate below 5)."""
    z, n = _Z95, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def check_bar(
    measure: str,
    candidate_Q: npt.ArrayLike,
    bar_Q: npt.ArrayLike,
    *,
    tolerance: float = 0.0,
    min_queries: int = MIN_GATE_PAIRS,
) -> GateCheck:
    """One bar: the paired lower bound of candidate - bar must be above -tolerance, on enough queries.

    Queries with NaN on either side (no relevant item) are left out of both. With tolerance 0 a candidate exactly as
    good as doing nothing does not pass: an upgrade must be worth its cost. With a tolerance the bound may equal it.

    Raises:
        SettingsError: lengths differ, or the tolerance is negative or not finite.
    """
    candidate, bar = np.asarray(candidate_Q, dtype=np.float64), np.asarray(bar_Q, dtype=np.float64)
    if candidate.shape != bar.shape or candidate.ndim != 1:
        raise SettingsError(
            f"{measure}: shapes {candidate.shape} and {bar.shape}, wanted the same queries, one value each"
        )
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise SettingsError(f"gate tolerance is {tolerance}, wanted zero or a small share such as 0.01")
    if np.isinf(candidate).any() or np.isinf(bar).any():
        raise SettingsError(f"{measure}: infinite scores, wanted shares of 1: check the embeddings")
    valid_Q = ~(np.isnan(candidate) | np.isnan(bar))
    candidate, bar = candidate[valid_Q], bar[valid_Q]
    margin, margin_low = lower_bound(candidate - bar)
    clears = margin_low > 0 if tolerance == 0 else margin_low >= -tolerance
    return GateCheck(
        measure=measure,
        candidate=float(candidate.mean()) if candidate.size else 0.0,
        bar=float(bar.mean()) if bar.size else 0.0,
        margin=margin,
        margin_low=margin_low,
        passed=bool(clears and candidate.size >= min_queries),
    )


def decide(
    *,
    agreement_candidate_Q: npt.ArrayLike,
    agreement_bar_Q: npt.ArrayLike,
    map_candidate_Q: npt.ArrayLike | None = None,
    map_bar_Q: npt.ArrayLike | None = None,
    tolerance: float = 0.0,
    min_queries: int = MIN_GATE_PAIRS,
    k: int | None = None,
) -> tuple[GateCheck, ...]:
    """Every bar of one candidate: neighbour agreement always, average precision where there are labels.

    The candidate may be published when all of them passed. `k` only names the measure "agreement@k".

    Raises:
        SettingsError: only one side has average precisions, or lengths differ.
    """
    if (map_candidate_Q is None) != (map_bar_Q is None):
        raise SettingsError("average precision is given for one side only, wanted both the candidate's and the bar's")
    name = AGREEMENT if k is None else f"{AGREEMENT}@{k}"
    checks = [check_bar(name, agreement_candidate_Q, agreement_bar_Q, tolerance=tolerance, min_queries=min_queries)]
    if map_candidate_Q is not None and map_bar_Q is not None:
        checks.append(check_bar(MAP, map_candidate_Q, map_bar_Q, tolerance=tolerance, min_queries=min_queries))
    return tuple(checks)


def choose_candidate(scores: Mapping[Method, npt.ArrayLike], *, tie_margin: float = TIE_MARGIN) -> Method:
    """The method with the best mean score; within `tie_margin` of the best, the simplest (`SIMPLEST_FIRST`).

    Raises:
        SettingsError: no candidates, or scores that are empty or not finite.
    """
    if not scores:
        raise SettingsError("no candidates to choose from, wanted at least one fitted transformation")
    means = {name: _mean(values) if np.size(values) else math.nan for name, values in scores.items()}
    broken = sorted(name for name, mean in means.items() if not math.isfinite(mean))
    if broken:
        raise SettingsError(f"scores of {', '.join(broken)} are empty or not finite: check its fit and the pairs")
    best = max(means.values())
    return min((name for name, mean in means.items() if mean >= best - tie_margin), key=SIMPLEST_FIRST.index)


def worst_group(
    candidate_Q: npt.ArrayLike, bar_Q: npt.ArrayLike, groups_Q: npt.ArrayLike, *, min_queries: int = 10
) -> dict[str, float] | None:
    """The group that loses most (or gains least) against doing nothing: {"group", "candidate", "bar"}.

    Groups with fewer than `min_queries` queries are too noisy to name; None where no group has enough. Groups are
    numbers, e.g. labels. Ties go to the smaller group number.
    """
    candidate, bar, groups = np.asarray(candidate_Q), np.asarray(bar_Q), np.asarray(groups_Q)
    names_G, members_Q, sizes_G = np.unique(groups, return_inverse=True, return_counts=True)
    large_G = np.flatnonzero(sizes_G >= min_queries)
    if large_G.size == 0:
        return None
    candidate_G = np.bincount(members_Q, weights=candidate) / sizes_G
    bar_G = np.bincount(members_Q, weights=bar) / sizes_G
    worst = large_G[np.argmin((candidate_G - bar_G)[large_G])]
    return {"group": float(names_G[worst]), "candidate": float(candidate_G[worst]), "bar": float(bar_G[worst])}


def negative_flips(right_before_Q: npt.ArrayLike, right_after_Q: npt.ArrayLike) -> float:
    """Share of all queries that were right at rank 1 before and are wrong after (Yan et al., CVPR 2021).

    Examples:
        >>> negative_flips([True, True, False, True], [True, False, True, True])
        0.25
    """
    before, after = np.asarray(right_before_Q, dtype=np.bool_), np.asarray(right_after_Q, dtype=np.bool_)
    return float((before & ~after).mean()) if before.size else 0.0


def judge(
    *,
    candidates: Mapping[Method, QueryScores],
    bar: QueryScores,
    k: int,
    ceiling: QueryScores | None = None,
    fused: QueryScores | None = None,
    groups_Q: npt.ArrayLike | None = None,
    tolerance: float = 0.0,
    min_queries: int = MIN_GATE_PAIRS,
    has_side_information: bool = True,
    uncovered_share: float = 0.0,
) -> GateResult:
    """The whole gate: choose a candidate, hold it to every bar, say why and what would be better.

    Among the candidates that clear every bar the one with the best mean agreement is chosen (ties: the simpler). If
    none clears, the best of all is judged and refused. `ceiling` is the new model on true new embeddings, `fused` the
    search of old + side with nothing fitted: neither decides, both feed the advice. `uncovered_share` is the share of
    the gallery in shards without a pair.

    Raises:
        SettingsError: no candidates, or scores that do not belong to the same queries.
    """
    checks = _checks(candidates, bar, tolerance=tolerance, min_queries=min_queries, k=k)
    clearing = [name for name, made in checks.items() if all(check.passed for check in made)]
    eligible = clearing or list(candidates)
    chosen = choose_candidate({name: candidates[name].agreement_Q for name in eligible})
    winner, passed, num_queries = candidates[chosen], bool(clearing), len(bar.agreement_Q)
    worst = None if groups_Q is None else worst_group(winner.agreement_Q, bar.agreement_Q, groups_Q)
    return GateResult(
        passed=passed,
        num_pairs=num_queries,
        k=k,
        chosen=chosen,
        cosine=winner.cosine,
        agreement=_mean_agreement(candidates, bar=bar, fused=fused),
        checks=checks[chosen],
        worst_group=worst,
        negative_flips=_flips(bar, winner),
        reason=reason_text(
            chosen, checks[chosen], passed=passed, num_pairs=num_queries, tolerance=tolerance, min_pairs=min_queries
        ),
        advice=advice_text(
            chosen,
            checks[chosen],
            passed=passed,
            num_pairs=num_queries,
            min_pairs=min_queries,
            tolerance=tolerance,
            bar_map=_mean_map(bar),
            ceiling_map=_mean_map(ceiling),
            candidate_agreement=_mean(winner.agreement_Q),
            fused_agreement=None if fused is None else _mean(fused.agreement_Q),
            has_side_information=has_side_information,
            uncovered_share=uncovered_share,
            worst=worst,
        ),
    )


def _checks(
    candidates: Mapping[Method, QueryScores], bar: QueryScores, *, tolerance: float, min_queries: int, k: int
) -> dict[Method, tuple[GateCheck, ...]]:
    """Every candidate against every bar."""
    return {
        name: decide(
            agreement_candidate_Q=scores.agreement_Q,
            agreement_bar_Q=bar.agreement_Q,
            map_candidate_Q=scores.average_precision_Q,
            map_bar_Q=bar.average_precision_Q,
            tolerance=tolerance,
            min_queries=min_queries,
            k=k,
        )
        for name, scores in candidates.items()
    }


def with_loss(fast: GateResult, exact: GateResult) -> GateResult:
    """The verdict on candidates in a fast precision, with what its chosen one lost against float32."""
    return replace(fast, precision_loss=exact.agreement[fast.chosen] - fast.agreement[fast.chosen])


def loses_too_much(result: GateResult) -> bool:
    """Whether a precision that nobody asked for by name should be given up for float32."""
    return result.precision_loss is not None and result.precision_loss > MAX_PRECISION_LOSS


def _mean(values_Q: npt.ArrayLike) -> float:
    values = np.asarray(values_Q, dtype=np.float64)
    return float(values.mean()) if values.size else 0.0


def _mean_map(scores: QueryScores | None) -> float | None:
    if scores is None or scores.average_precision_Q is None:
        return None
    values_Q = scores.average_precision_Q[~np.isnan(scores.average_precision_Q)]
    return _mean(values_Q) if values_Q.size else None


def _mean_agreement(
    candidates: Mapping[Method, QueryScores], *, bar: QueryScores, fused: QueryScores | None
) -> dict[Method, float]:
    means = {Method.OLD_OLD: _mean(bar.agreement_Q), **{name: _mean(s.agreement_Q) for name, s in candidates.items()}}
    return means if fused is None else {**means, Method.FUSED: _mean(fused.agreement_Q)}


def _flips(bar: QueryScores, winner: QueryScores) -> float | None:
    if bar.top1_right_Q is None or winner.top1_right_Q is None:
        return None
    return negative_flips(bar.top1_right_Q, winner.top1_right_Q)
