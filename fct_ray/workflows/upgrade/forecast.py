"""What an upgrade, or the full backfill that it replaces, will take: time, FLOPs and money, before any worker starts.

Owns: which work is in a forecast, and the rates of this machine. The arithmetic is plan/forecast's. Workers are taken to be
like the driver's machine; where they have GPUs, or more cores, the forecast is too high.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.kinds import Metric, WayChoice
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.flops import transformation_flops
from fct_ray.models.transformation import TransformationArchitecture
from fct_ray.plan.forecast import CPU_2_CORES, Forecast, Rates, forecast
from fct_ray.plan.refine_budget import items_within, parse_refine_budget
from fct_ray.values import Manifest
from fct_ray.workflows.upgrade.pair_origin import PairOrigin, PairsFromEncoder, num_pairs
from fct_ray.workflows.upgrade.pseudo_origin import PseudoOrigin
from fct_ray.workflows.upgrade.settings import UpgradeSettings

FIT_EFFICIENCY = 0.35  # of the matrix rate: small batches, and an optimiser step for each
ENCODER_EFFICIENCY = 0.35  # of the matrix rate; seen on 2 cores: MobileNet v2 0.15, small_cnn-16 0.24, ResNet-50 0.7
RAW_ITEM_BYTES = 110_000  # of a photo of ImageNet; what the items of a source take is known only once they were read
FIXED_S = 30.0  # starting Ray Train and Ray Data workers, gate, verification on 2 cores; grows little with the gallery
SIZE, MEASURED_S = 1024, 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpace:
    """The space that h leads to."""

    dimension: int
    metric: Metric
    normalized: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WayWork:
    """What one way of upgrading does to every item."""

    flops_per_row: float
    dimension: int
    """Dimensions of what it makes of an item."""
    fits_network: bool = False
    """Whether the network h is fitted for it; what is in closed form takes seconds."""


def upgrade_forecast(
    settings: UpgradeSettings,
    parent: Manifest,
    space: TargetSpace,
    *,
    use_side: bool,
    pairs: PairOrigin,
    pseudo: PseudoOrigin | None = None,
    num_to_refine: int = 0,
    way: WayWork | None = None,
    usd_per_node_hour: float | None,
    size: ClusterSize | None,
) -> Forecast:
    """The forecast of an upgrade of `parent` by one way (None: by the network h); without a price its dollars are None."""
    network = network_architecture(settings, parent, space, use_side=use_side)
    rates, num_nodes = measured_rates(), size.num_nodes if size is not None else 1
    network_flops = transformation_flops(network)
    way = way or WayWork(flops_per_row=network_flops, dimension=space.dimension, fits_network=True)
    read = sum(record.embeddings.bytes for record in parent.shards)
    written = max(read + parent.num_rows * 4 * (2 * way.dimension - parent.dimension), 0)
    candidates = 0 if settings.transformation is not None else 2 if settings.controls and use_side else way.fits_network
    count = num_pairs(pairs, parent)
    fit_flops = 3 * network_flops * (count + num_to_refine) * settings.fit.epochs * candidates
    embed_s, left_out = 0.0, tuple[str, ...]()
    if isinstance(pairs, PairsFromEncoder):
        embed_s, left_out = _embedding(count, [pairs.opened], rates, "embedding the pairs")
    if pseudo is not None:
        encoders = [encoder.opened for encoder in pseudo.encoders.values()]
        views = min(settings.gate.num_queries, parent.num_rows)
        views_s, unknown = _embedding(views, encoders, rates, "embedding other views of items")
        embed_s, left_out = embed_s + views_s, (*left_out, *unknown)
    times_read = 1  # pairs are picked out of all shards
    if isinstance(pairs, PairsFromEncoder) and num_to_refine:
        more_s, more_left_out = _embedding(num_to_refine, [pairs.opened], rates, "embedding the refined items")
        embed_s, left_out = embed_s + more_s, left_out + more_left_out
        times_read += 2  # all shards to find the uncertain items, and then these
    read_back_bytes = written * min(1.0, settings.verify_shards / len(parent.shards))
    on_all_nodes_s = embed_s + (times_read * read + read_back_bytes) / rates.storage_bytes_per_s
    return forecast(
        rows=parent.num_rows,
        num_bytes=read + written,
        flops_per_row=way.flops_per_row,
        num_nodes=num_nodes,
        rates=rates,
        usd_per_node_hour=usd_per_node_hour,
        fixed_s=FIXED_S + fit_flops / (rates.flops_per_s * FIT_EFFICIENCY) + on_all_nodes_s / num_nodes,
        left_out=left_out,
    )


def network_architecture(
    settings: UpgradeSettings, parent: Manifest, space: TargetSpace, *, use_side: bool
) -> TransformationArchitecture:
    """The network h that an upgrade would fit, by dimensions alone."""
    return TransformationArchitecture(
        kind="mlp",
        old_dimension=parent.dimension,
        side_dimension=parent.side_info.dimension if parent.side_info is not None and use_side else 0,
        new_dimension=space.dimension,
        inner=settings.fit.inner,
        normalized=space.normalized,
    )


def num_to_refine(
    settings: UpgradeSettings, parent: Manifest, pairs: PairOrigin, usd_per_node_hour: float | None
) -> int:
    """How many items `--refine-budget` embeds with the new model; 0 without one.

    Raises:
        SettingsError: the settings have no raw items or no way that new embeddings could help, or see `items_within`.
    """
    if settings.refine_budget is None:
        return 0
    budget = parse_refine_budget(settings.refine_budget)
    if not isinstance(pairs, PairsFromEncoder):
        raise SettingsError(
            f"--refine-budget {budget}: raw items are to be embedded with the new model, and --pairs {settings.pairs} brings "
            "none: give --source and an encoder that is here, or leave it out"
        )
    if settings.way is WayChoice.NOTHING_FITTED:
        raise SettingsError(
            f"--refine-budget {budget}: --way {settings.way} uses no embedding of the new model: choose another way, or "
            "leave it out"
        )
    rates = measured_rates()
    return items_within(
        budget,
        num_rows=parent.num_rows,
        num_pairs=num_pairs(pairs, parent),
        s_per_item=_item_s([pairs.opened], rates) if pairs.opened.flops_per_item else None,
        start_s=rates.worker_start_s,
        usd_per_node_hour=usd_per_node_hour,
    )


def backfill_forecast(
    rows: int, encoder: BatchEncoder, *, usd_per_node_hour: float | None, size: ClusterSize | None
) -> Forecast:
    """The forecast of embedding `rows` raw items and indexing them; without a price its dollars are None."""
    rates = measured_rates()
    _, left_out = _embedding(rows, [encoder], rates, "the full backfill")
    return forecast(
        rows=rows,
        num_bytes=rows * (RAW_ITEM_BYTES + 2 * 4 * encoder.dimension),
        flops_per_row=encoder.flops_per_item / ENCODER_EFFICIENCY,
        num_nodes=size.num_nodes if size is not None else 1,
        rates=rates,
        usd_per_node_hour=usd_per_node_hour,
        left_out=left_out,
    )


def _embedding(count: int, encoders: Sequence[BatchEncoder], rates: Rates, what: str) -> tuple[float, tuple[str, ...]]:
    """Seconds of one node to embed `count` raw items by each; what is not known of it, and so not in the seconds."""
    unknown = tuple(
        f"{what}: encoder {encoder.name!r} does not say what an item takes (`flops_per_item` is 0)"
        for encoder in encoders
        if not encoder.flops_per_item
    )
    return rates.worker_start_s + count * _item_s(encoders, rates), unknown


def _item_s(encoders: Sequence[BatchEncoder], rates: Rates) -> float:
    """Seconds of one node to read one raw item and embed it by each, as far as that is known."""
    compute_s = sum(encoder.flops_per_item for encoder in encoders) / (rates.flops_per_s * ENCODER_EFFICIENCY)
    return max(RAW_ITEM_BYTES / rates.storage_bytes_per_s, compute_s)


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
