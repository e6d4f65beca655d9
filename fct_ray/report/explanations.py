"""The sentences that make a newcomer understand the numbers: what doing nothing gives, what h recovers, and why.

Owns: wording that follows from values. Every sentence is conditional on what was measured: where
side-information did not help, or h did harm, the text says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fct_ray.judgements import CompatibilityRow, RecoveredShare
from fct_ray.kinds import Method
from fct_ray.plan.cost import held_usd, least_node_s
from fct_ray.plan.savings import Projection
from fct_ray.report.content import Pricing, Report
from fct_ray.report.quantities import count, factor, money, percent

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


def what_it_shows(report: Report) -> tuple[str, ...]:
    """Every sentence that a report says, the most wanted first: what was gained, what it cost, why it works."""
    return (*_gained(report), *_saved(report), *why_it_works(report))


def why_it_works(report: Report) -> tuple[str, ...]:
    """What the compatibility table shows, one sentence each; empty without the two reference rows."""
    rows = {row.method: row for row in report.compatibility}
    if Method.OLD_OLD not in rows or Method.NEW_NEW not in rows:
        return ()
    old_map, new_map = rows[Method.OLD_OLD].map, rows[Method.NEW_NEW].map
    old_text, new_text = percent(old_map), percent(new_map)
    doing_nothing = (
        f"Doing nothing (old model on both sides) gives {old_text} mAP; embedding all again gives {new_text}."
    )
    sentences = [] if _gained(report) else [doing_nothing]
    if new_map <= old_map:
        sentences.append("The new model is not better than the old one on this gallery: there is nothing to recover.")
        return tuple(sentences)
    if Method.DIRECT in rows and rows[Method.DIRECT].map < old_map:
        sentences.append(
            f"New queries cannot search the old embeddings directly ({percent(rows[Method.DIRECT].map)} mAP): the two "
            f"models' spaces have nothing in common, so a map h between them is needed."
        )
    chosen = None if report.gate is None else report.gate.chosen
    sentences += _recovery(report.recovered_share, alone=chosen in (None, Method.FCT_SIDE, Method.FCT_NOSIDE))
    return tuple(sentences)


def _gained(report: Report) -> tuple[str, ...]:
    """What the chosen way recovers of a full backfill's gain; nothing where one of the two was not measured."""
    rows = {row.method: row for row in report.compatibility}
    chosen = None if report.gate is None else report.gate.chosen
    if (
        chosen is None
        or chosen not in report.recovered_share
        or not {chosen, Method.OLD_OLD, Method.NEW_NEW} <= rows.keys()
    ):
        return ()
    old_map, new_map = rows[Method.OLD_OLD].map, rows[Method.NEW_NEW].map
    if new_map <= old_map:
        return ()
    share = report.recovered_share[chosen].map
    kept = f"{percent(share)} of the gain in mAP, without embedding the gallery again"
    verdict = kept if share > 0 else "it would do harm here"
    figures = {
        method: f"{percent(rows[method].map)} mAP and {percent(rows[method].top1)} top-1"
        for method in (chosen, Method.OLD_OLD, Method.NEW_NEW)
    }
    text = (
        f"The upgrade ({METHOD_TITLES[chosen]}) gives {figures[chosen]}, where doing nothing gives "
        f"{figures[Method.OLD_OLD]}, and a full backfill {figures[Method.NEW_NEW]}: {verdict}."
    )
    return (text,)


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


def _saved(report: Report) -> tuple[str, ...]:
    """What the upgrade cost beside the full backfill, here and for larger galleries; nothing where none was measured."""
    saved = report.saved
    if saved is None:
        return ()
    named = (("busy_compute", "busy compute"), ("flops", "FLOPs"), ("usd", "money"))
    parts = [f"{factor(saved.factors[key])} the {what}" for key, what in named if key in saved.factors]
    per_item = saved.variants.get("without_fitting_h", {}).get("busy_compute")
    sentences = []
    if parts:
        further = "" if per_item is None else f", and {factor(per_item)} for each further item"
        sentences.append(f"With all work of the upgrade counted, a full backfill takes {', '.join(parts)}{further}.")
    return (*sentences, _break_even(saved.break_even_rows), *_projected(saved.projections, report.pricing))


def _projected(projections: Sequence[Projection], pricing: Pricing | None) -> tuple[str, ...]:
    """Money at the largest gallery that was reckoned with."""
    if not projections or pricing is None:
        return ()
    largest = projections[-1]
    node_s = [least_node_s(usage, vcpus=pricing.vcpus, gpus=pricing.gpus) for usage in (largest.upgrade, largest.full)]
    upgrade, full = (money(None if s is None else held_usd(s, pricing.usd_per_node_hour), s) for s in node_s)
    text = (
        f"For {count(largest.rows)} items on {pricing.node_type}, all processors busy: {upgrade} for the upgrade, {full} for "
        "the full backfill."
    )
    return (text,)


def _break_even(rows: int | None) -> str:
    if rows is None:
        return "No gallery size was found from which the upgrade is the cheaper one."
    return f"The upgrade is the cheaper one from {count(rows)} gallery items on."
