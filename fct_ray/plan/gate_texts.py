"""The gate's sentences: why a version may or may not be published, and what would be better.

Owns: words and the one piece of arithmetic they need (how many pairs would decide). Knows no arrays: means and checks
are given. Measures are shares of 1, shown with three digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fct_ray.values import GateCheck, Method


def reason_text(
    chosen: Method,
    checks: Sequence[GateCheck],
    *,
    passed: bool,
    num_pairs: int,
    tolerance: float = 0.0,
    min_pairs: int = 0,
) -> str:
    """One sentence with every figure: which candidate, against what, by how much, at least how much."""
    figures = "; ".join(_figure(check) for check in checks)
    if passed:
        return f"passed: {chosen} clears every bar on {num_pairs:,} held-out pairs: {figures}"
    failed = [check for check in checks if not check.passed]
    if num_pairs < min_pairs:
        return f"refused: {num_pairs:,} held-out pairs are too few to judge {chosen}, wanted {min_pairs:,}: {figures}"
    worse = [check.measure for check in failed if check.margin < 0]
    wanted = "above 0" if tolerance == 0 else f"-{tolerance:.3f} or more"
    verdict = (
        f"does harm in {' and '.join(worse)}"
        if worse
        else f"is not proven better in {' and '.join(check.measure for check in failed)}"
    )
    return f"refused: {chosen} {verdict} on {num_pairs:,} held-out pairs (lower bound wanted {wanted}): {figures}"


def _figure(check: GateCheck) -> str:
    return (
        f"{check.measure} {check.candidate:.3f} against {check.bar:.3f} for doing nothing "
        f"({check.margin:+.3f}, at least {check.margin_low:+.3f} with 95 % confidence)"
    )


def pairs_that_would_decide(check: GateCheck, *, num_pairs: int, tolerance: float = 0.0) -> int | None:
    """Held-out pairs at which this mean difference would clear the bar; None where more pairs cannot help.

    The distance from mean to bound shrinks with the square root of the pairs: n * (half width / (margin + tol))^2.
    """
    room = check.margin + tolerance
    if room <= 0 or num_pairs < 2:
        return None
    half_width = check.margin - check.margin_low
    return max(num_pairs + 1, math.ceil(num_pairs * (half_width / room) ** 2))


def advice_text(
    chosen: Method,
    checks: Sequence[GateCheck],
    *,
    passed: bool,
    num_pairs: int,
    min_pairs: int = 0,
    tolerance: float = 0.0,
    bar_map: float | None = None,
    ceiling_map: float | None = None,
    candidate_agreement: float = 0.0,
    fused_agreement: float | None = None,
    has_side_information: bool = True,
    uncovered_share: float = 0.0,
    worst: Mapping[str, float] | None = None,
) -> str:
    """What to do next, most useful first; empty where there is nothing to add to a pass."""
    lines = []
    if ceiling_map is not None and bar_map is not None and ceiling_map <= bar_map:
        lines.append(
            f"the new model itself is no better here (mAP {ceiling_map:.3f} on its own embeddings against "
            f"{bar_map:.3f} of the old): stay with the old model, no transformation and no backfill would help"
        )
    elif not passed:
        lines += _after_refusal(chosen, checks, num_pairs, min_pairs, tolerance, has_side_information)
    if fused_agreement is not None and fused_agreement > candidate_agreement:
        lines.append(
            f"fused search of old + side-information, with nothing fitted, agrees more with the new model "
            f"({fused_agreement:.3f} against {candidate_agreement:.3f}): consider it"
        )
    if uncovered_share > 0:
        lines.append(
            f"{uncovered_share:.0%} of the gallery lie in shards without a pair, where this gate says nothing: sample "
            f"pairs over the whole gallery"
        )
    if worst is not None and worst["candidate"] < worst["bar"]:
        lines.append(
            f"group {worst['group']:g} loses: agreement {worst['candidate']:.3f} against {worst['bar']:.3f}; re-embed "
            f"it first in a partial backfill"
        )
    return "; ".join(lines)


def _after_refusal(
    chosen: Method,
    checks: Sequence[GateCheck],
    num_pairs: int,
    min_pairs: int,
    tolerance: float,
    has_side_information: bool,
) -> list[str]:
    if num_pairs < min_pairs:
        return [f"hold out at least {min_pairs:,} pairs"]
    failed = [check for check in checks if not check.passed]
    needed = [pairs_that_would_decide(check, num_pairs=num_pairs, tolerance=tolerance) for check in failed]
    lines = []
    numbers = [count for count in needed if count is not None]
    if numbers and len(numbers) == len(needed):
        lines.append(f"about {max(numbers):,} held-out pairs would decide it, if the difference stays")
    else:
        lines.append(
            "fit on more pairs, sampled from this very gallery (10 % of it recovers several times what 2 % does), or "
            "re-embed it (full or partial backfill)"
        )
    if not has_side_information:
        lines.append(
            "the store has no side-information, which was worth about five times the pairs in our trials: store it "
            "with the next full backfill (fct-ray backfill)"
        )
    elif not chosen.reads_side:
        lines.append("no candidate with side-information did better: check that it fits this gallery")
    return lines
