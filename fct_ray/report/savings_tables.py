"""What an upgrade saved, as text cells: factors beside a full backfill, and both at other sizes of the gallery.

Owns: these two tables. The figures come from `plan.savings`.
"""

from __future__ import annotations

from fct_ray.plan.cost import busy_compute_s, held_usd, least_node_s
from fct_ray.report.content import SAVED_KEYS, Report
from fct_ray.report.quantities import UNKNOWN, count, duration, factor, money
from fct_ray.report.text_table import Table
from fct_ray.values import Usage

VARIANT_TITLES = {
    "with_fitting_h": "the upgrade: pairs, fit of h, transform, index, verify",
    "without_fitting_h": "the same without pairs and fit of h, which do not grow with the gallery",
    "with_side_information": "the upgrade, and making the side-information in advance",
}
"""What is counted as the upgrade's work in each variant of `Saved`; other names are shown as they are."""


def projection_table(report: Report) -> Table | None:
    """The work of upgrade and full backfill for this gallery and for larger ones, as node-hours and money."""
    pricing, saved = report.pricing, report.saved
    if saved is None or pricing is None or not saved.projections:
        return None

    def held(usage: Usage | None) -> str:
        node_s = None if usage is None else least_node_s(usage, vcpus=pricing.vcpus, gpus=pricing.gpus)
        return (
            UNKNOWN
            if node_s is None
            else f"{duration(node_s)}, {money(held_usd(node_s, pricing.usd_per_node_hour), node_s)}"
        )

    rows = tuple(
        (
            count(projection.rows) + (" (measured)" if place == 0 else ""),
            held(projection.full),
            held(projection.upgrade),
            factor(busy_compute_s(projection.full) / busy_compute_s(projection.upgrade)),
            held(projection.in_advance),
        )
        for place, projection in enumerate(saved.projections)
    )
    return Table(
        name="projections",
        title="At other sizes of the gallery",
        sentence=f"Time and money of one {pricing.node_type} whose processors are all busy, as fast as those measured here; "
        "idle machines, storage and requests are not in it. Larger galleries are computed: work for each row grows with it, "
        "pairs, fit and gate stay.",
        header=("items", "full backfill", "upgrade", "factor", "side-information, made in advance"),
        rows=rows,
    )


def savings_table(report: Report) -> Table | None:
    """Saving factors, the headline and its variants."""
    if report.saved is None:
        return None
    variants = dict(report.saved.variants)
    if report.saved.factors not in variants.values():
        variants = {"headline": report.saved.factors, **variants}
    rows = tuple(
        (VARIANT_TITLES.get(name, name.replace("_", " ")), *(factor(factors.get(key)) for key in SAVED_KEYS))
        for name, factors in variants.items()
    )
    break_even = report.saved.break_even_rows
    return Table(
        name="saved",
        title="Saved against a full backfill",
        sentence="A factor is the full backfill's figure over the upgrade's: above 1x the upgrade is cheaper. "
        + (f"Break-even gallery size: {count(break_even)} items." if break_even is not None else "No break-even."),
        header=("counted as the upgrade's work", "busy compute", "FLOPs", "money", "node-seconds"),
        rows=rows,
    )
