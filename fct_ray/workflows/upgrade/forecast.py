"""What an upgrade will take: time, bytes, FLOPs and money, reckoned before any worker starts.

Owns: which work of an upgrade is in the forecast, and the rates of this machine. `plan/forecast` has the arithmetic. Workers
are taken to be like the driver's machine; where they have GPUs, or more cores, the forecast is too high.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache

from fct_ray.engine.cluster import ClusterSize
from fct_ray.models.flops import transformation_flops
from fct_ray.models.transformation import TransformationArchitecture
from fct_ray.plan.forecast import CPU_2_CORES, Forecast, Rates, forecast
from fct_ray.values import Manifest, Metric
from fct_ray.workflows.upgrade.settings import FitOnPairsSettings, UpgradeSettings

PAIRS_SHARE, PAIRS_LEAST, PAIRS_MOST = 0.1, 500, 20_000
FIT_EFFICIENCY = 0.35  # of the matrix rate: small batches, and an optimiser step for each
FIXED_S = 30.0  # starting Ray Train and Ray Data workers, gate, verification on 2 cores; grows little with the gallery
SIZE, MEASURED_S = 1024, 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpace:
    """The space that h leads to."""

    dimension: int
    metric: Metric
    normalized: bool


def num_pairs_wanted(settings: FitOnPairsSettings, parent: Manifest) -> int:
    """How many items are embedded with the new model to fit and judge h."""
    if settings.num_pairs is not None:
        return settings.num_pairs
    return min(parent.num_rows, max(PAIRS_LEAST, min(PAIRS_MOST, round(parent.num_rows * PAIRS_SHARE))))


def upgrade_forecast(
    settings: UpgradeSettings,
    parent: Manifest,
    space: TargetSpace,
    use_side: bool,
    usd_per_node_hour: float | None,
    size: ClusterSize | None,
) -> Forecast:
    """The forecast of an upgrade of `parent`; without a price its dollars are None."""
    side = parent.side_info.dimension if parent.side_info is not None and use_side else 0
    architecture = TransformationArchitecture(
        kind="mlp",
        old_dimension=parent.dimension,
        side_dimension=side,
        new_dimension=space.dimension,
        inner=settings.fit.inner,
        normalized=space.normalized,
    )
    flops_per_row, rates = transformation_flops(architecture), measured_rates()
    read = sum(record.embeddings.bytes for record in parent.shards)
    written = read + parent.num_rows * 4 * (2 * space.dimension - parent.dimension)
    candidates = 0 if settings.transformation is not None else 2 if settings.controls and side else 1
    fit_flops = 3 * flops_per_row * num_pairs_wanted(settings, parent) * settings.fit.epochs * candidates
    return forecast(
        rows=parent.num_rows,
        num_bytes=max(read + written, 0),
        flops_per_row=flops_per_row,
        num_nodes=size.num_nodes if size is not None else 1,
        rates=rates,
        usd_per_node_hour=usd_per_node_hour,
        fixed_s=FIXED_S + fit_flops / (rates.flops_per_s * FIT_EFFICIENCY),
    )


@lru_cache(maxsize=1)
def measured_rates() -> Rates:
    """The rates of a node like this one: float32 matrix products measured now, the rest as in `CPU_2_CORES`."""
    import torch

    from fct_ray.models.matrix_rate import matrix_rate

    cores = os.cpu_count() or 1
    return replace(
        CPU_2_CORES,
        flops_per_s=matrix_rate(threads=torch.get_num_threads(), size=SIZE, seconds=MEASURED_S),
        provenance=f"float32 matrix products on this machine ({cores} cores), storage and start of {CPU_2_CORES.provenance}",
    )
