"""Full backfill with the quick start's encoder: what an upgrade replaces, at its cheapest."""

from __future__ import annotations

from collections.abc import Callable

from fct_ray.bench.contenders import ContenderJob, Done
from fct_ray.bench.contenders.backfill import prepare_backfill
from fct_ray.models.encoder import EncoderArchitecture


def prepare(job: ContenderJob) -> Callable[[], Done]:
    """Start a cluster and save the encoder, with random weights."""
    architecture = EncoderArchitecture(
        backbone="small_cnn-16", dimension=128, channels_in=1, image_size=28, mean=(0.29,), std=(0.35,)
    )
    return prepare_backfill(job, architecture, rows=20_000, rows_per_shard=5_000)
