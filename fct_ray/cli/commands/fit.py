"""Fit one model with Ray Train: an encoder (old, new), side-information, or a transformation h.

Examples:
    fct-ray fit old --source images:s3://bucket/photos --output s3://bucket/models --fit.backbone resnet50
    fct-ray fit side --source images:s3://bucket/photos --output s3://bucket/models
    fct-ray fit transformation --store S --encoder NEW --pairs pairs.parquet --output s3://bucket/models
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fct_ray.cli.command_line import Command, run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.engine.cluster import connected
from fct_ray.models.encoder_loop import EncoderFit, EncoderLoss
from fct_ray.report.outcomes import fit_report, transformation_report
from fct_ray.workflows.fit.encoder import FitEncoderSettings, fit_encoder
from fct_ray.workflows.fit.transformation import FitTransformationSettings, fit_for_store


@dataclass(frozen=True, kw_only=True)
class FitEncoder(JobSettings, FitEncoderSettings):
    """Fit an encoder on labelled items."""

    name: str = ""
    """The model's name. Empty: "old", "side" or "new", as the command."""


@dataclass(frozen=True, kw_only=True)
class FitSide(FitEncoder):
    """Fit a side-information model: contrastive (SimCLR), so that it depends on no task."""

    fit: EncoderFit = field(default_factory=lambda: EncoderFit(loss=EncoderLoss.SIMCLR, epochs=6))
    """How it is fitted."""


@dataclass(frozen=True, kw_only=True)
class FitTransformation(JobSettings, FitTransformationSettings):
    """Fit h and its linear control on pairs of a store, to be used for another store of the same encoders."""


def encoder_named(name: str, settings: FitEncoder) -> Finished:
    """Fit (or find fitted) an encoder."""
    pricing, chosen = pricing_of(settings.pricing), replace(settings, name=settings.name or name)
    with connected(settings.cluster) as size:
        fitted = fit_encoder(chosen, size)
    return finish(fit_report(fitted, chosen, pricing), settings.report_dir or f"{fitted.uri}/report")


def old(settings: FitEncoder) -> Finished:
    """The encoder of today's index."""
    return encoder_named("old", settings)


def new(settings: FitEncoder) -> Finished:
    """The encoder to upgrade to."""
    return encoder_named("new", settings)


def side(settings: FitSide) -> Finished:
    """The side-information model."""
    return encoder_named("side", settings)


def transformation(settings: FitTransformation) -> Finished:
    """h, on pairs of a store."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster) as size:
        fitted = fit_for_store(settings, size)
    return finish(transformation_report(fitted, settings, pricing), settings.report_dir or f"{fitted.uri}/report")


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    commands: dict[str, Command] = {
        "old": (FitEncoder, old),
        "side": (FitSide, side),
        "new": (FitEncoder, new),
        "transformation": (FitTransformation, transformation),
    }
    run_job(commands, __doc__ or "", argv, program)
