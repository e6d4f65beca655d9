"""The sentences that make a newcomer understand the numbers: what doing nothing gives, what h recovers, and why.

Owns: wording that follows from values. Every sentence is conditional on what was measured: where
side-information did not help, or h did harm, the text says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fct_ray.judgements import CompatibilityRow, RecoveredShare
from fct_ray.kinds import Method
from fct_ray.report.content import Report
from fct_ray.report.quantities import count, factor, percent

METHOD_TITLES: Mapping[Method, str] = {
    Method.OLD_OLD: "old queries on old gallery: doing nothing",
    Method.DIRECT: "new queries on old gallery as it is: no h",
    Method.WHITENED: "old queries on old gallery, both whitened: nothing fitted",
    Method.FUSED: "old + side queries on old + side: nothing fitted",
    Method.FUSED_WHITENED: "the same, each whitened: nothing fitted",
    Method.BCT: "backward-compatible new model (BCT): no gallery work",
    Method.SHARED_SPACE: "new queries on the coordinates that old and new share",
    Method.PROCRUSTES: "new queries on rotated old embeddings",
    Method.LINEAR_NOSIDE: "linear map, without side-information",
    Method.LINEAR_SIDE: "linear map, with side-information",
    Method.CORRECTED: "linear map, corrected by the pairs that are near",
    Method.FCT_NOSIDE: "FCT, without side-information",
    Method.FCT_SIDE: "FCT, with side-information",
    Method.FUSED_LINEAR: "linear map, old and side joined",
    Method.FUSED_CORRECTED: "corrected map, old and side joined",
    Method.FUSED_FCT: "FCT, old and side joined",
    Method.NEW_NEW: "new queries on new gallery: full backfill",
}
"""What each method of the compatibility table is, in the order from doing nothing to the full backfill."""
REFERENCES = frozenset({Method.OLD_OLD, Method.NEW_NEW})
"""What the others are compared with."""


def ordered_rows(rows: Iterable[CompatibilityRow]) -> tuple[CompatibilityRow, ...]:
    """Rows in the order of `METHOD_TITLES`."""
    order = list(METHOD_TITLES)
    return tuple(sorted(rows, key=lambda row: order.index(row.method)))


def why_it_works(report: Report) -> tuple[str, ...]:
    """What the compatibility table shows, one sentence each; empty without the two reference rows."""
    rows = {row.method: row for row in report.compatibility}
    if Method.OLD_OLD not in rows or Method.NEW_NEW not in rows:
        return ()
    gain = rows[Method.NEW_NEW].map - rows[Method.OLD_OLD].map
    old_map, new_map = percent(rows[Method.OLD_OLD].map), percent(rows[Method.NEW_NEW].map)
    sentences = [
        f"Doing nothing (old model on both sides) gives {old_map} mAP; re-embedding the whole gallery gives {new_map}."
    ]
    if gain <= 0:
        sentences.append("The new model is not better than the old one on this gallery: there is nothing to recover.")
        return tuple(sentences)
    if Method.DIRECT in rows and rows[Method.DIRECT].map < rows[Method.OLD_OLD].map:
        sentences.append(
            f"New queries cannot search the old embeddings directly ({percent(rows[Method.DIRECT].map)} mAP): the two "
            f"models' spaces have nothing in common, so a map h between them is needed."
        )
    chosen = None if report.gate is None else report.gate.chosen
    if chosen is not None and chosen in report.recovered_share:
        sentences.append(_chosen(chosen, report.recovered_share[chosen].map))
    sentences += _recovery(report.recovered_share, alone=chosen in (None, Method.FCT_SIDE, Method.FCT_NOSIDE))
    return tuple(sentences)


def _chosen(method: Method, share: float) -> str:
    """What the transformation that the gate chose recovers."""
    title = METHOD_TITLES[method]
    text = f"The transformation chosen on held-out pairs ({title}) recovers {percent(share)} of that gain"
    return f"{text} without re-embedding the gallery." if share > 0 else f"{text}: it would do harm here."


def _recovery(shares: Mapping[Method, RecoveredShare], *, alone: bool) -> list[str]:
    """What h recovers without and with side-information, and whether the side-information earned its bytes.

    `alone`: no other transformation was chosen, so that one of them is worth a sentence.
    """
    with_side, without = shares.get(Method.FCT_SIDE), shares.get(Method.FCT_NOSIDE)
    if with_side is None and without is None:
        return []
    if with_side is None or without is None:
        if not alone:
            return []
        share, kind = (with_side, "with") if with_side is not None else (without, "without")
        assert share is not None  # noqa: S101  (one of the two is there; said for the type checker)
        return [_one(share.map, kind)]
    text = (
        f"h recovers {percent(without.map)} of that gain from the old embeddings alone, and {percent(with_side.map)} "
        f"when it also reads the side-information"
    )
    if max(with_side.map, without.map) <= 0:
        return [f"{text}: h did harm here, keep the old index or re-embed."]
    if with_side.map <= without.map:
        return [f"{text}: in this run the side-information did not help."]
    verdict = "both better than doing nothing" if without.map > 0 else "without it, h does harm here"
    reason = (
        "The old model threw away what its own task did not need; the side-information, learned without that task, "
        "kept part of it, so h can put it back."
    )
    return [f"{text}: {verdict}. {reason}"]


def _one(share: float, kind: str) -> str:
    text = f"h, {kind} side-information, recovers {percent(share)} of that gain without re-embedding the gallery"
    return f"{text}." if share > 0 else f"{text}: h did harm here, keep the old index or re-embed."


def saving_sentence(report: Report) -> str | None:
    """What the upgrade saved, in one sentence; None where nothing was compared."""
    if report.saved is None:
        return None
    named = (("busy_compute", "the busy compute"), ("flops", "the FLOPs"), ("usd", "the money"))
    factors = report.saved.factors
    parts = [f"{factor(factors[key])} {what}" for key, what in named if key in factors]
    lead = f"Counting all of the upgrade's work, a full backfill takes {', '.join(parts)}. " if parts else ""
    return lead + _break_even(report.saved.break_even_rows)


def _break_even(rows: int | None) -> str:
    if rows is None:
        return "No gallery size was found from which the upgrade is the cheaper one."
    return f"The upgrade is the cheaper one from {count(rows)} gallery items on."
