"""The encoder: pixels in, embeddings out; a backbone with an embedding head of chosen dimension.

Owns: how raw images become tensors (size, channels, mean and standard deviation) and embeddings. Knows no loss,
no file, no source of images.

Shapes: N images, H height, W width, C channels, D dim of embeddings. Pixels are uint8 0-255 in NHWC on the
outside, float32 0-1 in NCHW ("unit images") inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import DataError, SettingsError
from fct_ray.models.backbones import build_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_IMAGE_SIZE = 4096
_GREY, _RGB, _RGBA = 1, 3, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderArchitecture:
    """Everything that decides what an encoder computes, but its weights.

    `image_size` is the side of the square input in pixels; `mean` and `std` are per channel, of unit images.
    `normalized` makes the embeddings unit length. `head_width` is the width of a hidden layer in the head; 0: it has none.

    Raises: SettingsError where lengths or signs do not fit.
    """

    backbone: str
    dimension: int
    channels_in: int = 3
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    normalized: bool = True
    head_width: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.channels_in not in (_GREY, _RGB):
            raise SettingsError(f"channels_in is {self.channels_in}; wanted 1 (grey) or 3 (RGB)")
        if len(self.mean) != self.channels_in or len(self.std) != self.channels_in:
            raise SettingsError(
                f"mean has {len(self.mean)} and std {len(self.std)} values; wanted {self.channels_in}, one per channel"
            )
        if self.head_width < 0:
            raise SettingsError(f"head_width is {self.head_width}; wanted 0 (no hidden layer) or more")
        if min(self.std) <= 0 or self.dimension < 1 or not 1 <= self.image_size <= MAX_IMAGE_SIZE:
            raise SettingsError(
                f"std {self.std}, dimension {self.dimension} and image_size {self.image_size} must all be positive, "
                f"image_size at most {MAX_IMAGE_SIZE}"
            )


class Encoder(nn.Module):
    """A backbone and a head to `dimension`; `forward` takes images as `prepare` returns them."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: EncoderArchitecture, *, pretrained: bool = False) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone, feature_dim = build_backbone(
            architecture.backbone, architecture.channels_in, pretrained=pretrained
        )
        self.head = _head(feature_dim, architecture.head_width, architecture.dimension)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)  # the architecture already holds them
        # On 2 cores with AVX2, batches were 10-40 % faster than in NCHW order (small_cnn, resnet18, mobilenets).
        self.to(memory_format=torch.channels_last)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """embeddings_ND of normalised images, unit length if the architecture says normalized."""
        embeddings_ND = self.raw_embeddings(images_NCHW)
        return functional.normalize(embeddings_ND, dim=1) if self.architecture.normalized else embeddings_ND

    def raw_embeddings(self, images_NCHW: Tensor) -> Tensor:
        """embeddings_ND of normalised images before they are scaled to unit length."""
        features = self.backbone(images_NCHW.contiguous(memory_format=torch.channels_last))
        embeddings_ND: Tensor = self.head(features)
        return embeddings_ND

    def normalise(self, unit_NCHW: Tensor) -> Tensor:
        """(unit images - mean) / std: the last step before `forward`, after any augmentation."""
        return (unit_NCHW - self.mean) / self.std

    def unit_images(self, images: NDArray[np.uint8] | Tensor | Sequence[Any]) -> Tensor:
        """float32 NCHW in 0-1 on the encoder's device, of its size and channels: see `unit_images`."""
        unit_NCHW = unit_images(images, size=self.architecture.image_size, channels=self.architecture.channels_in)
        return unit_NCHW.to(self.mean.device)

    def prepare(self, images: NDArray[np.uint8] | Tensor | Sequence[Any]) -> Tensor:
        """What `forward` takes: float32 NCHW, normalised, from uint8 NHWC or a list of HWC (or HW) arrays."""
        return self.normalise(self.unit_images(images))


def _head(feature_dim: int, width: int, dimension: int) -> nn.Module:
    if not width:
        return nn.Linear(feature_dim, dimension)
    hidden = (nn.Linear(feature_dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
    return nn.Sequential(*hidden, nn.Linear(width, dimension))


def unit_images(images: NDArray[np.uint8] | Tensor | Sequence[Any], *, size: int, channels: int) -> Tensor:
    """float32 NCHW in 0-1, `size` pixels square, from uint8 images: an NHWC (or NHW) array or a list of HWC (or HW).

    Images of another size are scaled (bilinear, antialiased) until their shorter side fits, and cropped in the
    centre. RGB becomes grey by ITU-R 601 luma, grey becomes RGB by repetition, RGBA is laid on white.

    Raises: DataError for other shapes, naming the position in the batch.
    """
    if isinstance(images, Tensor | np.ndarray) and images.dtype not in (object, np.object_):
        return _unit_batch(torch.as_tensor(images), size, channels, "the batch")
    if len(images) == 0:
        return torch.zeros(0, channels, size, size)
    parts = [
        _unit_batch(torch.as_tensor(np.ascontiguousarray(image))[None], size, channels, f"image {position}")
        for position, image in enumerate(images)
    ]
    return torch.cat(parts)


def _unit_batch(images: Tensor, size: int, channels: int, what: str) -> Tensor:
    if images.dim() == 3:
        images = images[..., None]
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] not in (_GREY, _RGB, _RGBA):
        raise DataError(
            f"{what} has shape {list(images.shape)} (with N first) and type {images.dtype}; wanted uint8 pixels "
            "[N, height, width, channels] with 1, 3 or 4 channels; decode the images first"
        )
    unit_NCHW = _with_channels(images.permute(0, 3, 1, 2).float().mul_(1 / 255), channels).contiguous()
    height, width = unit_NCHW.shape[2:]
    if (height, width) == (size, size):
        return unit_NCHW
    if min(height, width) == 0:
        raise DataError(f"{what} is {height} x {width} pixels; wanted at least 1 x 1; leave it out of the source")
    scale = size / min(height, width)
    scaled = (max(size, round(height * scale)), max(size, round(width * scale)))
    unit_NCHW = functional.interpolate(unit_NCHW, scaled, mode="bilinear", antialias=True, align_corners=False)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return unit_NCHW[:, :, top : top + size, left : left + size].contiguous()


def _with_channels(unit_NCHW: Tensor, channels: int) -> Tensor:
    if unit_NCHW.shape[1] == _RGBA:
        alpha = unit_NCHW[:, 3:]
        unit_NCHW = unit_NCHW[:, :3] * alpha + (1 - alpha)
    if unit_NCHW.shape[1] == channels:
        return unit_NCHW
    if channels == _RGB:
        return unit_NCHW.expand(-1, _RGB, -1, -1)
    luma = torch.tensor([0.299, 0.587, 0.114], device=unit_NCHW.device).view(1, 3, 1, 1)
    return (unit_NCHW * luma).sum(dim=1, keepdim=True)
