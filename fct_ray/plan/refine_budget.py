"""How many items a refinement embeds with the new model: a share, dollars or hours, turned into a number of items.

    5%        of the gallery
    $20       as many items as this pays for, by the forecast's cost of one item and the price of a node-hour
    2node-h   as many items as nodes embed in so many hours; 2gpu-h: the same, for nodes with one GPU each

Owns: reading such a text, and that arithmetic. Knows no encoder: what an item takes is an argument.

Units: `_s` seconds of one node, `usd` US dollars.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from fct_ray.errors import SettingsError

WANTED = "a share of the gallery (5%), dollars ($20) or hours of nodes (2gpu-h, 2node-h)"
_TEXT = re.compile(r"\s*(?P<usd>\$)?\s*(?P<amount>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>%|gpu-h|node-h)?\s*")


class BudgetUnit(StrEnum):
    """What a budget is counted in."""

    SHARE = "%"
    """Per cent of the gallery."""
    USD = "$"
    """US dollars."""
    NODE_HOURS = "node-h"
    """Hours of one node."""
    GPU_HOURS = "gpu-h"
    """Hours of one node with one GPU, reckoned like `NODE_HOURS`: too few items rather than too many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefineBudget:
    """How much may be spent on embedding items with the new model."""

    amount: float
    unit: BudgetUnit

    def __str__(self) -> str:
        """As it is typed."""
        number = f"{self.amount:g}"
        return f"${number}" if self.unit is BudgetUnit.USD else f"{number}{self.unit}"


def parse_refine_budget(text: str) -> RefineBudget:
    """The budget that a text such as "5%", "$20" or "2gpu-h" means.

    Raises:
        SettingsError: it means none, or nothing, or more than the gallery.

    Examples:
        >>> parse_refine_budget("2.5%")
        RefineBudget(amount=2.5, unit=<BudgetUnit.SHARE: '%'>)
        >>> str(parse_refine_budget("$ 20"))
        '$20'
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found["usd"] is None) == (found["unit"] is None):
        raise SettingsError(f"--refine-budget is {text!r:.50}; want {WANTED}")
    amount, unit = float(found["amount"]), BudgetUnit(found["usd"] or found["unit"])
    if not (0 < amount < math.inf) or (unit is BudgetUnit.SHARE and amount > 100):
        most = " and at most 100%" if unit is BudgetUnit.SHARE else ""
        raise SettingsError(f"--refine-budget is {text!r:.50}; want more than nothing{most}: {WANTED}")
    return RefineBudget(amount=amount, unit=unit)


def items_within(
    budget: RefineBudget,
    *,
    num_rows: int,
    num_pairs: int,
    s_per_item: float | None,
    start_s: float,
    usd_per_node_hour: float | None,
) -> int:
    """How many items of a gallery of `num_rows` are embedded: as many as the budget allows, and no pair again.

    `s_per_item` are the node-seconds that one item takes (None: nobody knows), `start_s` those before the first.

    Raises:
        SettingsError: what the budget is counted in is not known, or it does not pay for one item.

    Examples:
        >>> share = parse_refine_budget("5%")
        >>> items_within(share, num_rows=1000, num_pairs=100, s_per_item=None, start_s=8, usd_per_node_hour=None)
        50
        >>> dollars = parse_refine_budget("$1")  # 3,600 node-seconds, of which 600 start the workers
        >>> items_within(dollars, num_rows=9000, num_pairs=0, s_per_item=2.0, start_s=600, usd_per_node_hour=1.0)
        1500
    """
    most = num_rows - num_pairs
    if budget.unit is BudgetUnit.SHARE:
        wanted = math.floor(num_rows * budget.amount / 100 + 0.5)
    else:
        if s_per_item is None:
            raise SettingsError(
                f"--refine-budget {budget}: the new encoder does not say what an item takes (`flops_per_item` is 0), so a "
                "number of items does not follow; give a share of the gallery, for example 5%"
            )
        wanted = math.floor((_node_s(budget, usd_per_node_hour) - start_s) / s_per_item)
    if most < 1:
        raise SettingsError(
            f"--refine-budget {budget}: all {num_rows:,} items of the gallery are pairs, so none is left to embed: leave "
            "it out, or lower --num-pairs"
        )
    if wanted < 1:
        raise SettingsError(f"--refine-budget {budget}: is not enough for one item; want more, or leave it out")
    return min(wanted, most)


def _node_s(budget: RefineBudget, usd_per_node_hour: float | None) -> float:
    if budget.unit is not BudgetUnit.USD:
        return budget.amount * 3600.0
    if not usd_per_node_hour:
        raise SettingsError(
            f"--refine-budget {budget}: no price of a node-hour is known: name a node type of the price book "
            "(--pricing.node-type), or give a share of the gallery (5%) or hours (2node-h)"
        )
    return budget.amount / usd_per_node_hour * 3600.0
