"""What an upgrade saved against the full backfill it replaced: the factors, and from which gallery on it pays.

Owns: which work counts as what. Work is counted in three parts, because they grow differently:

    per row     stream + verify + publish of the upgrade
    one-off     embedding pairs, fitting h, the gate
    in advance  fitting the side-information model and embedding the gallery with it, paid when the old index was made
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fct_ray.plan.cost import break_even_rows, busy_compute_s, saved
from fct_ray.plan.stages import STAGES, Growth
from fct_ray.values import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedWork:
    """Factors, full backfill over upgrade: all work, and with less or more of it counted."""

    all_work: Mapping[str, float]
    variants: Mapping[str, Mapping[str, float]]
    break_even_rows: int | None


def work_saved(
    full: Mapping[str, Usage],
    upgrade: Mapping[str, Usage],
    *,
    rows: int,
    in_advance: Usage | None,
    usd_per_node_hour: float | None,
) -> SavedWork:
    """Factors and break-even of an upgrade against a full backfill of the same rows.

    `all_work` counts per-row and one-off work; the variant "with_side_information" adds what was paid in advance,
    "without_fitting_h" leaves the one-off work out. The break-even gallery is in busy compute.
    """
    backfill = sum((full[name] for name in full), Usage())
    per_row = sum((usage for name, usage in upgrade.items() if STAGES[name] is Growth.PER_ROW), Usage())
    one_off = sum((usage for name, usage in upgrade.items() if STAGES[name] is Growth.FIXED), Usage())

    def factors(work: Usage) -> Mapping[str, float]:
        return saved(backfill, work, usd_per_node_hour=usd_per_node_hour)

    variants = {"with_fitting_h": factors(per_row + one_off), "without_fitting_h": factors(per_row)}
    if in_advance is not None:
        variants["with_side_information"] = factors(per_row + one_off + in_advance)
    return SavedWork(
        all_work=factors(per_row + one_off),
        variants=variants,
        break_even_rows=break_even_rows(
            busy_compute_s(one_off), busy_compute_s(per_row) / rows, busy_compute_s(backfill) / rows
        ),
    )
