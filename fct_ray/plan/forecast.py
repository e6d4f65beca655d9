"""How long a stream will take and what it will cost, before any node is rented.

Owns: the roofline arithmetic: the larger of FLOPs over the matrix rate and bytes over the storage rate, plus the
start of the workers. Knows no price book (the price of a node-hour is an argument) and no clock.

Units: seconds, bytes, FLOPs (two per multiply-add), US dollars; rates are per node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fct_ray.errors import SettingsError
from fct_ray.plan.cost import held_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What one node does per second, and where the figures come from."""

    flops_per_s: float
    """Sustained by the model at hand on the whole node, not the data sheet's peak."""
    storage_bytes_per_s: float
    """Read plus written, to the storage that will be used."""
    worker_start_s: float
    """From asking for a worker to its first row: process start and imports."""
    index_rows_per_s: float = math.inf
    """Rows added to the index per second; infinite where it runs beside the rest (Flat)."""
    provenance: str
    """Which measurement: machine, versions, date."""

    def __post_init__(self) -> None:
        """Refuse rates that would make a forecast zero or infinite."""
        for name in ("flops_per_s", "storage_bytes_per_s", "index_rows_per_s"):
            value = getattr(self, name)
            if not value > 0:
                raise SettingsError(f"rate {name} is {value}, wanted more than zero: measure it")
        if not self.worker_start_s >= 0:
            raise SettingsError(f"worker_start_s is {self.worker_start_s}, wanted zero or more: measure it")


CPU_2_CORES = Rates(
    # 45,000 rows/s of the reference h (11.4 MFLOP a row) through read, transform, write and Flat index, bfloat16.
    flops_per_s=500e9,
    # 1 M rows of 128 + 128 float32 read, as many written twice (Parquet and FAISS) in 16 s by the hand loop.
    storage_bytes_per_s=130e6,
    # "about 8 s of 22 s is starting actors (importing torch, faiss)".
    worker_start_s=8.0,
    provenance="2 cores with AVX-512/AMX, Ray 2.60, local disk, 1 M rows in 50 shards, one or two runs",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a run is expected to take; `bound` names what limits it."""

    wall_s: float
    node_s: float
    usd: float | None
    """None where no price was given: report hours, not zero dollars."""
    bound: str
    """"compute", "storage", "index" or "start"."""
    left_out: tuple[str, ...] = ()
    """Work that the figures do not hold, because what it takes is not known: which, and why."""

    def __add__(self, other: Forecast) -> Forecast:
        """One run after the other."""
        return Forecast(
            wall_s=self.wall_s + other.wall_s,
            node_s=self.node_s + other.node_s,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
            bound=max(self, other, key=lambda one: one.wall_s).bound,
            left_out=(*self.left_out, *other.left_out),
        )


def forecast(
    *,
    rows: int,
    num_bytes: int,
    flops_per_row: float,
    num_nodes: int,
    rates: Rates,
    usd_per_node_hour: float | None = None,
    fixed_s: float = 0.0,
    left_out: tuple[str, ...] = (),
) -> Forecast:
    """Wall time, node-seconds and dollars of streaming `rows` over `num_nodes` nodes.

    wall = worker start + fixed + max(FLOPs / rate, bytes / rate, rows / index rate) / nodes; node-seconds are
    wall * nodes, because nodes are held while others finish. `num_bytes` counts bytes read plus written over all
    rows; `fixed_s` is the time of what comes before and after the stream (embedding pairs, fitting h, reading back).

    Raises:
        SettingsError: no node, or a negative count.

    Examples:
        >>> rates = Rates(flops_per_s=1e9, storage_bytes_per_s=1e6, worker_start_s=8.0, provenance="this machine, today")
        >>> expected = forecast(
        ...     rows=1000, num_bytes=4_000_000, flops_per_row=1e7, num_nodes=2, rates=rates, usd_per_node_hour=0.36
        ... )
        >>> expected.wall_s, expected.node_s, expected.bound
        (13.0, 26.0, 'start')
        >>> round(expected.usd, 6)
        0.0026
    """
    if num_nodes < 1:
        raise SettingsError(f"num_nodes is {num_nodes}, wanted 1 or more")
    if min(rows, num_bytes, flops_per_row, fixed_s) < 0:
        raise SettingsError(
            f"rows {rows}, bytes {num_bytes}, FLOPs per row {flops_per_row}, fixed {fixed_s} s: wanted zero or more"
        )
    parts_s = {
        "compute": rows * flops_per_row / rates.flops_per_s / num_nodes,
        "storage": num_bytes / rates.storage_bytes_per_s / num_nodes,
        "index": rows / rates.index_rows_per_s / num_nodes,
    }
    bound = max(parts_s, key=lambda name: parts_s[name])
    start_s = rates.worker_start_s + fixed_s
    wall_s = start_s + parts_s[bound]
    node_s = wall_s * num_nodes
    return Forecast(
        wall_s=wall_s,
        node_s=node_s,
        usd=held_usd(node_s, usd_per_node_hour),
        bound=bound if parts_s[bound] >= start_s else "start",
        left_out=left_out,
    )
