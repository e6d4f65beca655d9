"""Full backfill with a ResNet-50 at 224 pixels: what an upgrade replaces, with a common encoder."""

from __future__ import annotations

from collections.abc import Callable

from fct_ray.bench.contenders import ContenderJob, Done
from fct_ray.bench.contenders.backfill import prepare_backfill
from fct_ray.models.encoder import EncoderArchitecture


def prepare(job: ContenderJob) -> Callable[[], Done]:
    """Start a cluster and save the encoder, with random weights."""
    return prepare_backfill(job, EncoderArchitecture(backbone="resnet50", dimension=128), rows=512, rows_per_shard=64)
