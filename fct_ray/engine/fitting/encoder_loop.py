"""Training loops of encoders: supervised (cross-entropy or ArcFace) and contrastive (SimCLR side-information).

Owns: optimiser, schedule, epochs, checkpoints. Losses, augmentations and networks are models'. The two loops differ in
one function: what loss a batch has. Legend: N images of a batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn

from fct_ray.engine.fitting.trainer import Worker
from fct_ray.errors import FitError
from fct_ray.models.augment import AugmentSettings, light_augment, simclr_view
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.flops import training_flops_per_item
from fct_ray.models.losses import ArcFaceLoss, NormalizedLinearClassifier, NTXentLoss
from fct_ray.models.seeding import generator, seed_everything
from fct_ray.models.simclr import SimClrModel


class EncoderLoss(StrEnum):
    """What an encoder is fitted with."""

    CROSS_ENTROPY = "cross_entropy"
    ARCFACE = "arcface"
    SIMCLR = "simclr"


@dataclass(frozen=True, kw_only=True)
class EncoderFit:
    """How an encoder is fitted."""

    backbone: str = "small_cnn-16"
    """"small_cnn-WIDTH" for small images, or resnet18, resnet50, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large."""
    dimension: int = 128
    """Dimensions of the embedding."""
    loss: EncoderLoss = EncoderLoss.CROSS_ENTROPY
    """cross_entropy or arcface (with labels), or simclr (side-information, without labels)."""
    epochs: int = 3
    """Passes over the items."""
    batch_size: int = 128
    """Images per step, over all workers."""
    learning_rate: float = 0.1
    """Peak, after warm-up; cosine to zero."""
    momentum: float = 0.9
    """Of stochastic gradient descent (Nesterov)."""
    weight_decay: float = 5e-4
    """L2 penalty."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    """Of the cross-entropy."""
    scale: float = 16.0
    """Of the cosine logits (cross_entropy, arcface)."""
    margin: float = 0.3
    """ArcFace's angular margin in radians."""
    temperature: float = 0.2
    """SimCLR's."""
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


BatchLoss = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]


class SupervisedModel(nn.Module):
    """An encoder with its classifier, as one module so that DDP sees all parameters."""

    def __init__(self, encoder: Encoder, settings: EncoderLoopSettings) -> None:
        """Classifier by `settings.fit.loss`."""
        super().__init__()
        fit, dimension = settings.fit, settings.architecture.dimension
        self.encoder = encoder
        if fit.loss is EncoderLoss.ARCFACE:
            self.classifier: nn.Module = ArcFaceLoss(
                dimension, settings.num_classes, margin=fit.margin, scale=fit.scale, label_smoothing=fit.label_smoothing
            )
        else:
            self.classifier = NormalizedLinearClassifier(
                dimension, settings.num_classes, scale=fit.scale, label_smoothing=fit.label_smoothing
            )

    def forward(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        loss: torch.Tensor = self.classifier(self.encoder(images_NCHW), labels_N)
        return loss
