"""Training loops of encoders: supervised (cross-entropy or ArcFace) and contrastive (SimCLR side-information).

Owns: optimiser, schedule, epochs, checkpoints. Losses, augmentations and networks are models'. The two loops differ in
one function: what loss a batch has. Legend: N images of a batch, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from fct_ray.errors import FitError
from fct_ray.models.augmentation import LIGHT, SIMCLR, augmented, two_views
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.fit_worker import FitWorker
from fct_ray.models.flops import training_flops_per_item
from fct_ray.models.losses import ArcFaceLoss, NormalizedLinearClassifier
from fct_ray.models.schedule import warmup_cosine
from fct_ray.models.seeding import generator, seed_everything
from fct_ray.models.simclr import SimClrModel
from fct_ray.models.supervised import SupervisedModel
from fct_ray.settings import CheckedSettings, Count, CountOrZero, Part, PartOrNone, Positive, PositiveOrZero, Share


class EncoderLoss(StrEnum):
    """What an encoder is fitted with."""

    CROSS_ENTROPY = "cross_entropy"
    ARCFACE = "arcface"
    SIMCLR = "simclr"

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from labels; one that does not makes side-information."""
        return self is not EncoderLoss.SIMCLR


@dataclass(frozen=True, kw_only=True)
class EncoderFit(CheckedSettings):
    """How an encoder is fitted."""

    backbone: str = "small_cnn-16"
    """"small_cnn-WIDTH" or "small_cnn-WIDTHxCELLS" for small images, or resnet18, resnet50, mobilenet_v2,
    mobilenet_v3_small, mobilenet_v3_large, efficientnet_lite0."""
    pretrained: bool = False
    """Start from the backbone's ImageNet weights; those of efficientnet_lite0 are installed with fct_ray, others are
    downloaded."""
    freeze_backbone: bool = False
    """Fit only the embedding head, on features that the backbone computes once: minutes instead of hours where its
    weights are pretrained."""
    image_size: Count | None = None
    """Side of the square images that the backbone sees, in pixels. None: as large as the source's."""
    dimension: Count = 128
    """Dimensions of the embedding."""
    head_width: CountOrZero = 0
    """Width of a hidden layer between backbone and embedding. 0: none, the head is linear."""
    loss: EncoderLoss = EncoderLoss.CROSS_ENTROPY
    """cross_entropy or arcface (with labels), or simclr (side-information, without labels)."""
    epochs: Count = 3
    """Passes over the items."""
    batch_size: Count = 128
    """Images per step, over all workers."""
    learning_rate: Positive = 0.1
    """Peak, after warm-up; cosine to zero."""
    momentum: Part = 0.9
    """The momentum of stochastic gradient descent (Nesterov)."""
    weight_decay: PositiveOrZero = 5e-4
    """L2 penalty."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    label_smoothing: PartOrNone = 0.1
    """The share of label smoothing in the cross-entropy."""
    scale: Positive = 16.0
    """What cosine logits are multiplied with (cross_entropy, arcface)."""
    margin: PositiveOrZero = 0.3
    """The angular margin of ArcFace, in radians."""
    temperature: Positive = 0.2
    """The temperature of the contrastive loss (simclr)."""
    augment: bool = False
    """Light augmentation of a supervised fit (SimCLR always augments)."""
    flip: bool = True
    """Whether a mirrored image is still the same thing (not for glyphs)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderLoopSettings:
    """One Ray Train run of one encoder."""

    architecture: EncoderArchitecture
    fit: EncoderFit
    num_classes: int
    num_items: int
    seed: int


def encoder_loop(worker: FitWorker, settings: EncoderLoopSettings) -> None:
    """Fit one encoder; the last checkpoint's `encoder` is its state dict."""
    fit = settings.fit
    seed_everything(settings.seed)
    module = build_model(settings).to(worker.device)
    model = worker.prepare(module)
    optimizer = torch.optim.SGD(
        _parameter_groups(module, fit.weight_decay), lr=fit.learning_rate, momentum=fit.momentum, nesterov=True
    )
    batch_rows = max(2, fit.batch_size // worker.world_size)
    steps = max(1, settings.num_items // worker.world_size // batch_rows)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps * fit.epochs, fit.warmup_share))
    state = worker.restore()
    start = 0
    if state is not None:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        start = state["epoch"]
    flops_per_item = _training_flops(module, settings)
    for epoch in range(start, fit.epochs):
        random = generator(settings.seed * 100_003 + epoch * 101 + worker.rank)
        loss = math.nan
        model.train()
        for step, batch in enumerate(worker.batches(batch_rows, settings.seed + epoch)):
            if step == steps:
                break
            batch_loss = _batch_loss(model, module.encoder, batch, settings, random)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            worker.count(rows=batch_rows, flops=batch_rows * flops_per_item)
            if step % TELL_EVERY == 0:
                loss = float(batch_loss.detach())
                worker.tell(epoch * steps + step, steps * fit.epochs, f"loss {loss:.3f}")
        if not math.isfinite(loss):
            raise FitError(
                f"the fit diverged in epoch {epoch + 1} (loss {loss}); want a finite loss: lower --fit.learning-rate "
                f"(now {fit.learning_rate}), or give more items than one batch ({fit.batch_size})"
            )
        _save(worker, module, optimizer, schedule, epoch + 1, loss)
    worker.tell(steps * fit.epochs, steps * fit.epochs, "done")


TELL_EVERY = 10
Fitted = SupervisedModel | SimClrModel


def build_model(settings: EncoderLoopSettings) -> Fitted:
    """The encoder with what its loss needs, of random weights but for a pretrained backbone. Raises SettingsError."""
    fit, dimension = settings.fit, settings.architecture.dimension
    encoder = Encoder(settings.architecture, pretrained=fit.pretrained)
    if fit.loss is EncoderLoss.SIMCLR:
        return SimClrModel(encoder, temperature=fit.temperature)
    if fit.loss is EncoderLoss.ARCFACE:
        return SupervisedModel(
            encoder,
            ArcFaceLoss(
                dimension, settings.num_classes, margin=fit.margin, scale=fit.scale, label_smoothing=fit.label_smoothing
            ),
        )
    classifier = NormalizedLinearClassifier(
        dimension, settings.num_classes, scale=fit.scale, label_smoothing=fit.label_smoothing
    )
    return SupervisedModel(encoder, classifier)


def _parameter_groups(module: Fitted, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels are decayed; biases and BatchNorm are not."""
    decayed = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.dim() > 1]
    kept = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def _batch_loss(
    model: nn.Module, encoder: Encoder, batch: dict[str, torch.Tensor], settings: EncoderLoopSettings, random: Any
) -> torch.Tensor:
    unit_NCHW = encoder.unit_images(batch["image"])
    if settings.fit.loss is EncoderLoss.SIMCLR:
        first, second = two_views(unit_NCHW, replace(SIMCLR, flip=settings.fit.flip), random)
        loss: torch.Tensor = model(encoder.normalise(first), encoder.normalise(second))
        return loss
    if settings.fit.augment:
        unit_NCHW = augmented(unit_NCHW, replace(LIGHT, flip=settings.fit.flip), random)
    supervised: torch.Tensor = model(encoder.normalise(unit_NCHW), batch["label"].to(unit_NCHW.device))
    return supervised


def _training_flops(module: Fitted, settings: EncoderLoopSettings) -> float:
    """FLOPs of one item's forward and backward pass; a contrastive step passes two views."""
    architecture = settings.architecture
    side = architecture.image_size
    example = torch.zeros(2, architecture.channels_in, side, side, device=next(module.parameters()).device)
    was_training = module.training
    per_view = training_flops_per_item(module.encoder, (example,))
    module.train(was_training)
    return per_view * (2 if settings.fit.loss is EncoderLoss.SIMCLR else 1)


def _save(
    worker: FitWorker, module: Fitted, optimizer: torch.optim.Optimizer, schedule: Any, epoch: int, loss: float
) -> None:
    state = {
        "module": module.state_dict(),
        "encoder": module.encoder.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": epoch,
        "loss": loss,
    }
    worker.save(state, {"loss": loss})
