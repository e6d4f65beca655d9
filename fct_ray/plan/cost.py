"""Money and savings: pure arithmetic on usage and a dated price book.

Owns: the shape of a price book, dollars from node-seconds (the only place where they are made), saving factors, the
break-even gallery size. Knows no file: `cluster/prices.yaml` is loaded elsewhere and validated against these dataclasses.
A price that is asked for and unknown is an error, unknown money is None: neither is ever zero.

Units: `usd` US dollars, `_s` seconds, `gib` 2^30 bytes, `gb` 10^9 bytes; factors are full backfill over upgrade,
so above 1 the upgrade is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fct_ray.errors import SettingsError
from fct_ray.values import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePrice:
    """What one node costs while it is held."""

    usd_per_hour: float
    """On demand, operating system included."""
    vcpus: int
    memory_gib: float
    gpus: int = 0
    spot_usd_per_hour: float | None = None
    """Interruptible; None where the book has no figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoragePrice:
    """What object storage costs: capacity and requests."""

    usd_per_gb_month: float
    usd_per_1000_puts: float
    usd_per_1000_gets: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceBook:
    """Prices of one region on one day, with where they were read."""

    date: str
    currency: str
    region: str
    source: str
    node_types: Mapping[str, NodePrice]
    storage: Mapping[str, StoragePrice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a book whose figures this module would misread."""
        if self.currency != "USD":
            raise SettingsError(f"price book is in {self.currency}, wanted USD: convert it, every figure here is _usd")
        for name, node in self.node_types.items():
            spot = node.spot_usd_per_hour
            if not node.usd_per_hour > 0 or (spot is not None and not spot > 0):
                raise SettingsError(f"price of node type {name!r} is {node}, wanted more than zero: correct the book")


def usd_per_node_hour(node_type: str, book: PriceBook, *, spot: bool = False) -> float:
    """US dollars for holding one node of this type for one hour.

    Raises:
        SettingsError: the book has no such node type, or no spot price for it.

    Examples:
        >>> book = PriceBook(
        ...     date="2026-11-21", currency="USD", region="us-east-1", source="list prices",
        ...     node_types={"m7i.large": NodePrice(usd_per_hour=0.1008, vcpus=2, memory_gib=8)},
        ... )
        >>> usd_per_node_hour("m7i.large", book)
        0.1008
    """
    node = book.node_types.get(node_type)
    if node is None:
        known = ", ".join(sorted(book.node_types)) or "none"
        raise SettingsError(
            f"no price for node type {node_type!r} in the price book of {book.date} ({book.region}), which knows: "
            f"{known}. Add it to the book, or name one of these"
        )
    if not spot:
        return node.usd_per_hour
    if node.spot_usd_per_hour is None:
        raise SettingsError(
            f"no spot price for node type {node_type!r} in the price book of {book.date}: add spot_usd_per_hour, or "
            f"reckon with the on-demand price"
        )
    return node.spot_usd_per_hour


def held_usd(node_s: float, usd_per_node_hour: float | None) -> float | None:
    """US dollars for holding nodes for so many node-seconds; None where no price is known."""
    return None if usd_per_node_hour is None else node_s / 3600.0 * usd_per_node_hour


def cost_usd(usage: Usage, usd_per_node_hour: float | None) -> float | None:
    """US dollars for the node-seconds of some work, idle and repeated work included; None where that is not known.

    It is not known without a price, and where work or its time was counted but not how long nodes were held: that would
    come out as zero, and unknown money must never be shown as none.
    """
    if usage.node_s <= 0 and busy_compute_s(usage) + usage.wall_s > 0:
        return None
    return held_usd(usage.node_s, usd_per_node_hour)


def total_usd(stages: Iterable[Usage], usd_per_node_hour: float | None) -> float | None:
    """US dollars for all stages; None where that of one of them is not known."""
    costs = [cost_usd(usage, usd_per_node_hour) for usage in stages]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) and usd_per_node_hour is not None else None


def storage_usd_per_month(num_bytes: int, storage_class: str, book: PriceBook) -> float:
    """US dollars per month for keeping `num_bytes`, for example a gallery's side-information.

    Raises:
        SettingsError: the book has no such storage class.
    """
    price = book.storage.get(storage_class)
    if price is None:
        known = ", ".join(sorted(book.storage)) or "none"
        raise SettingsError(f"no price for storage {storage_class!r} in the price book of {book.date}, only: {known}")
    return num_bytes / 1e9 * price.usd_per_gb_month


def busy_compute_s(usage: Usage) -> float:
    """Busy seconds of CPU and GPU added one for one; compare only runs on the same kind of node.

    Examples:
        >>> busy_compute_s(Usage(busy_cpu_s=30.0, busy_gpu_s=12.0))
        42.0
    """
    return usage.busy_cpu_s + usage.busy_gpu_s


def least_node_s(usage: Usage, *, vcpus: int, gpus: int) -> float | None:
    """Node-seconds that some work holds where every processor of the nodes is busy; None for GPU work on nodes without GPU.

    As fast as the processors that were measured; idle time, which clusters have, comes on top.

    Examples:
        >>> least_node_s(Usage(busy_cpu_s=30.0), vcpus=2, gpus=0)
        15.0
    """
    if usage.busy_gpu_s > 0 and not gpus:
        return None
    return max(usage.busy_cpu_s / vcpus, usage.busy_gpu_s / gpus if gpus else 0.0)


def saved(full: Usage, upgrade: Usage, *, usd_per_node_hour: float | None = None) -> dict[str, float]:
    """Full backfill over upgrade: {"busy_compute", "flops", "usd", "node_s"}; 3.0 means a third of the work.

    A key is left out where either side has no figure (not measured, price unknown), because a factor of such a
    pair would be zero or infinite and would mean nothing.

    Examples:
        >>> saved(Usage(busy_cpu_s=300.0, flops=8e12), Usage(busy_cpu_s=100.0, flops=2e12))
        {'busy_compute': 3.0, 'flops': 4.0}
    """
    pairs: dict[str, tuple[float | None, float | None]] = {
        "busy_compute": (busy_compute_s(full), busy_compute_s(upgrade)),
        "flops": (full.flops, upgrade.flops),
        "usd": (cost_usd(full, usd_per_node_hour), cost_usd(upgrade, usd_per_node_hour)),
        "node_s": (full.node_s, upgrade.node_s),
    }
    return {name: above / below for name, (above, below) in pairs.items() if above and below}


def break_even_rows(fixed_upgrade_cost: float, per_row_upgrade: float, per_row_full: float) -> int | None:
    """Smallest gallery for which the upgrade costs no more than the full backfill, in rows; None if none does.

    fixed + n * per_row_upgrade <= n * per_row_full, so n = ceil(fixed / (per_row_full - per_row_upgrade)). Any
    one unit of cost (dollars, FLOPs, busy seconds). Exact rational arithmetic on the given floats.

    Raises:
        SettingsError: a cost is negative or not finite.

    Examples:
        >>> break_even_rows(fixed_upgrade_cost=60.0, per_row_upgrade=0.25, per_row_full=1.0)
        80
        >>> break_even_rows(fixed_upgrade_cost=60.0, per_row_upgrade=1.0, per_row_full=1.0) is None
        True
    """
    costs = (fixed_upgrade_cost, per_row_upgrade, per_row_full)
    if not all(math.isfinite(cost) and cost >= 0 for cost in costs):
        raise SettingsError(f"costs are {costs}, wanted finite numbers of zero or more: check the measurements")
    gain = Fraction(per_row_full) - Fraction(per_row_upgrade)
    if gain <= 0:
        return None
    return math.ceil(Fraction(fixed_upgrade_cost) / gain)
