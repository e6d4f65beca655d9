"""What an upgrade saved against the full backfill it replaced: the factors, and from which gallery on it pays.

Owns: which work counts as what. Work is counted in three parts, because they grow differently:

    per row     stream + verify + publish of the upgrade
    one-off     embedding pairs, fitting h, the gate
    in advance  embedding the gallery with the side-information model, and fitting that model: paid when the old index
                was made

At other sizes the work for each row is taken to stay what it was here; both sides then hold the start of their processes in
it, which weighs more on the upgrade's shorter stages, so that its factor is probably told too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fct_ray.plan.cost import break_even_rows, busy_compute_s, saved
from fct_ray.plan.stages import STAGES, Growth
from fct_ray.values import Usage

PROJECTED_ROWS = (1_000_000, 100_000_000, 1_000_000_000)
"""Galleries for which reports tell the work, beside the one that was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InAdvance:
    """What side-information took when the old index was made."""

    embedding: Usage
    """Embedding all rows of the gallery with it."""
    fitting: Usage
    """Fitting its model; nothing where this package did not fit it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """The work of both sides for a gallery of `rows` items."""

    rows: int
    upgrade: Usage
    full: Usage
    in_advance: Usage | None
    """Side-information, made in advance; None where that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedWork:
    """Factors, full backfill over upgrade: all work, and with less or more of it counted."""

    all_work: Mapping[str, float]
    variants: Mapping[str, Mapping[str, float]]
    break_even_rows: int | None
    projections: tuple[Projection, ...] = ()
    """The gallery that was measured, then larger ones."""


def work_saved(
    full: Mapping[str, Usage],
    upgrade: Mapping[str, Usage],
    *,
    rows: int,
    in_advance: InAdvance | None,
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
        variants["with_side_information"] = factors(per_row + one_off + in_advance.embedding + in_advance.fitting)

    def projection(projected: int) -> Projection:
        scale = projected / rows
        return Projection(
            rows=projected,
            upgrade=one_off + per_row * scale,
            full=backfill * scale,
            in_advance=None if in_advance is None else in_advance.fitting + in_advance.embedding * scale,
        )

    return SavedWork(
        all_work=factors(per_row + one_off),
        variants=variants,
        break_even_rows=break_even_rows(
            busy_compute_s(one_off), busy_compute_s(per_row) / rows, busy_compute_s(backfill) / rows
        ),
        projections=tuple(projection(size) for size in (rows, *(size for size in PROJECTED_ROWS if size > rows))),
    )
