"""Fitting one encoder (old, new) or side-information model with Ray Train, and keeping it.

Owns: an encoder fit's settings, and the memory of what was fitted: the same settings on the same items give the same
model directory without fitting again. What the fit took stays in the model's provenance, so that a reused model
still shows its price.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field

import numpy as np

from fct_ray.engine.cluster import ClusterSize, count_nodes
from fct_ray.engine.items_dataset import class_labels, items_dataset
from fct_ray.engine.trainer import TrainSettings, run_fit
from fct_ray.errors import SettingsError, SourceError
from fct_ray.metering.meters import measure_stage
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.encoder_loop import EncoderFit, EncoderLoopSettings, encoder_loop
from fct_ray.models.head_loop import head_loop
from fct_ray.models.model_files import pack_model
from fct_ray.plan.identity import run_id
from fct_ray.settings import CheckedSettings, Seed
from fct_ray.shards.encoder_names import MODEL_JSON
from fct_ray.shards.model_directory import load_model, save_model
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, objects
from fct_ray.values import EncoderRef, Usage
from fct_ray.version import __version__

logger = logging.getLogger(__name__)
STATISTICS_ITEMS = 2048


@dataclass(frozen=True, kw_only=True)
class FitEncoderSettings(CheckedSettings):
    """Fit one encoder on the items of a source."""

    name: str
    """The model's name, e.g. "old", "side", "new"."""
    source: str
    """Labelled items, e.g. "fashion-mnist:fit?classes=0-4" or "images:s3://bucket/photos"."""
    output: str
    """Where models go: `<output>/<name>-<hash12>/`; of a store, its models/ directory."""
    fit: EncoderFit = field(default_factory=EncoderFit)
    """How it is fitted."""
    train: TrainSettings = field(default_factory=TrainSettings)
    """The workers that fit it."""
    seed: Seed = 0
    """Seed of weights, order and augmentation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedEncoder:
    """Where a fitted encoder is, and what fitting it took."""

    uri: str
    ref: EncoderRef
    usage: Usage
    reused: bool
    run: str


def fit_encoder(settings: FitEncoderSettings, size: ClusterSize) -> FittedEncoder:
    """Fit an encoder, or find it fitted.

    Raises:
        SourceError: the source has no images of one size, or no labels.
        FitError: the fit diverged or lost its workers too often.
    """
    source = open_source(settings.source)
    run = _identity(settings, source)
    memory_uri = objects.join(settings.output, f"fits/{run}.json")
    if objects.exists(memory_uri):
        directory = str(documents.load(dict, objects.read_bytes(memory_uri), memory_uri)["model"])
        if objects.exists(objects.join(objects.join(settings.output, directory), MODEL_JSON)):
            logger.info("model %s was fitted before: %s", settings.name, directory)
            return _fitted(objects.join(settings.output, directory), run, reused=True)
    architecture = _architecture(settings, source)
    classes = class_labels(source)
    if len(classes) == 0 and settings.fit.loss.needs_labels:
        raise SourceError(
            f"{settings.source}: has no labels, which {settings.fit.loss.value} wants; name a labelled source, or use simclr"
        )
    loop = EncoderLoopSettings(
        architecture=architecture,
        fit=settings.fit,
        num_classes=len(classes),
        num_items=source.num_items,
        seed=settings.seed,
    )
    with measure_stage(count_nodes) as meter:
        outcome = run_fit(
            head_loop if settings.fit.freeze_backbone else encoder_loop,
            loop,
            name=run,
            storage_uri=objects.join(settings.output, "fits"),
            train=settings.train,
            size=size,
            dataset=items_dataset(source, settings.seed),
            describe=f"fit {settings.name} ({settings.fit.backbone}, {settings.fit.loss.value})",
        )
        meter.add(outcome.usage)
    module = Encoder(architecture)
    module.load_state_dict(outcome.state["encoder"])
    packed = pack_model(
        module,
        kind="encoder" if settings.fit.loss.needs_labels else "side",
        name=settings.name,
        provenance={
            "source": settings.source,
            "classes": len(classes),
            "fit": documents.plain(settings.fit),
            "seed": settings.seed,
            "usage": documents.plain(meter.measured),
            "fct_ray": __version__,
        },
    )
    uri = save_model(settings.output, packed)
    objects.write_bytes(memory_uri, documents.dump({"model": packed.directory_name}))
    return _fitted(uri, run, reused=False)


def _identity(settings: FitEncoderSettings, source: Source) -> str:
    decisive = {
        "name": settings.name,
        "source": settings.source,
        "items": source.listing.fingerprint,
        "fit": asdict(settings.fit),
        "workers": settings.train.num_workers,
        "seed": settings.seed,
    }
    return run_id("fit", documents.dump(decisive).decode())


def _fitted(uri: str, run: str, *, reused: bool) -> FittedEncoder:
    document = load_model(uri).document
    return FittedEncoder(
        uri=uri,
        ref=EncoderRef(name=document.name, fingerprint=document.fingerprint),
        usage=document.usage() or Usage(),
        reused=reused,
        run=run,
    )


def _architecture(settings: FitEncoderSettings, source: Source) -> EncoderArchitecture:
    """Input size and normalisation from the images themselves."""
    if source.num_items < settings.fit.batch_size:
        raise SettingsError(
            f"{settings.source}: {source.num_items} items, batch size {settings.fit.batch_size}; want at least one batch"
        )
    images = source.read(np.arange(min(STATISTICS_ITEMS, source.num_items))).columns.get("image")
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise SourceError(f"{settings.source}: want images of one size to fit an encoder; resize them first")
    fit, size = settings.fit, settings.fit.image_size or max(images.shape[1:3])
    if fit.pretrained:  # its weights know RGB images, normalised as ImageNet's were
        return EncoderArchitecture(
            backbone=fit.backbone, dimension=fit.dimension, image_size=size, head_width=fit.head_width
        )
    unit = images.astype(np.float32) / 255.0
    return EncoderArchitecture(
        backbone=fit.backbone,
        dimension=fit.dimension,
        channels_in=images.shape[3],
        image_size=size,
        head_width=fit.head_width,
        mean=tuple(float(value) for value in unit.mean(axis=(0, 1, 2))),
        std=tuple(float(value) for value in np.maximum(unit.std(axis=(0, 1, 2)), 1e-3)),
    )
