"""The streaming stage of jobs/embed.py on real images (Fashion-MNIST, scaled to what the encoder takes), random weights."""

from __future__ import annotations

from collections.abc import Callable

from fct_ray.bench.pipelines import Done, PipelineJob
from fct_ray.bench.pipelines.running_cluster import start_cluster
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.model_files import pack_model
from fct_ray.models.seeding import seed_everything
from fct_ray.shards.model_directory import save_model
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill


def prepare_small(job: PipelineJob) -> Callable[[], Done]:
    """Start a cluster and save the quick start's encoder: what an upgrade replaces, at its cheapest."""
    architecture = EncoderArchitecture(
        backbone="small_cnn-16", dimension=128, channels_in=1, image_size=28, mean=(0.29,), std=(0.35,)
    )
    return _prepare(job, architecture, rows=20_000, rows_per_shard=5_000)


def prepare_resnet50(job: PipelineJob) -> Callable[[], Done]:
    """Start a cluster and save a ResNet-50 for 224 pixels: what an upgrade replaces, with a common encoder."""
    return _prepare(job, EncoderArchitecture(backbone="resnet50", dimension=128), rows=512, rows_per_shard=64)


def _prepare(
    job: PipelineJob, architecture: EncoderArchitecture, *, rows: int, rows_per_shard: int
) -> Callable[[], Done]:
    seed_everything(0)
    packed = pack_model(
        Encoder(architecture).eval(), kind="encoder", name=architecture.backbone, provenance={"weights": "random"}
    )
    settings = BackfillSettings(
        store=f"{job.output}/store",
        source=f"fashion-mnist:gallery?limit={rows}",
        encoder=save_model(f"{job.output}/models", packed),
        rows_per_shard=rows_per_shard,
    )
    cluster, size = start_cluster(job)

    def run() -> Done:
        with cluster:
            outcome = run_backfill(plan_backfill(settings), size)
        figures = {f"{name}_s": usage.wall_s for name, usage in outcome.stages.items()}
        return Done(rows=outcome.published.num_rows, embeddings=None, figures=figures)

    return run
