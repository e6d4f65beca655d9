"""Random changes of whole batches of images, cheap enough for a CPU that also trains.

Owns: which changes there are, how strong, and that a seed repeats them. Knows no encoder and no loss. A view is
one affine resampling (crop, aspect, rotation, mirror image in one `grid_sample`) and one affine map of colours
(brightness, contrast, saturation, hue, greying in one 3x3 matrix per image), so that a batch costs two passes.
One view of 256 images of 28x28 takes 4 ms of CPU time (RGB 7 ms), against 83 ms for small_cnn-16's forward and
backward pass.

Shapes: N images, C channels, H height, W width, P random numbers per image. Unit images: float 0-1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fct_ray.errors import SettingsError

_NUM_RANDOM = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSettings:
    """How strongly images are changed; `dataclasses.replace` a preset to change one thing.

    `crop_scale`: share of the area kept, drawn uniformly; `aspect`: largest stretch of the crop, drawn
    log-uniformly from 1/aspect to aspect. `flip` mirrors half of the images left to right: glyphs and digits must
    not be mirrored. `brightness`, `contrast` and `saturation` x draw a factor from 1 - x to 1 + x; `hue` is the
    largest turn in radians. `grey_probability` and `blur_probability` are shares of images; saturation, hue and
    greying touch RGB only. The blur is a 3x3 mean.
    """

    crop_scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    flip: bool = False
    rotation_degrees: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey_probability: float = 0.0
    blur_probability: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1 or self.aspect < 1:
            raise SettingsError(
                f"crop_scale is {self.crop_scale} and aspect {self.aspect}; wanted 0 < low <= high <= 1 and aspect >= 1"
            )


SIMCLR = AugmentSettings(
    crop_scale=(0.2, 1.0),
    aspect=4 / 3,
    flip=True,
    rotation_degrees=10.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.6,
    grey_probability=0.2,
)
"""Two views of it make a contrastive pair (Chen et al., ICML 2020, appendix A, without the Gaussian blur)."""

LIGHT = AugmentSettings(crop_scale=(0.75, 1.0), aspect=1.15, flip=True, brightness=0.1, contrast=0.1)
"""For supervised fits."""


def augmented(unit_NCHW: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A random view of every image: float32 NCHW in 0-1, same shape; uint8 NCHW is taken too.

    Every image has its own draws, always `_NUM_RANDOM` of them, so that a switched-off option does not shift the
    others. Beyond the border the nearest pixel is repeated.
    """
    if unit_NCHW.dtype == torch.uint8:
        unit_NCHW = unit_NCHW.float().mul_(1 / 255)
    random_NP = torch.rand(len(unit_NCHW), _NUM_RANDOM, generator=generator, device=generator.device)
    random_NP = random_NP.to(unit_NCHW.device)
    views = unit_NCHW
    if _moves(settings):
        grid = functional.affine_grid(_placements(random_NP, settings), list(views.shape), align_corners=False)
        views = functional.grid_sample(views, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if settings.blur_probability > 0:
        views = _partly_blurred(views, random_NP[:, 11] < settings.blur_probability)
    if _recolours(settings, views.shape[1]):
        views = _recoloured(views, random_NP, settings)
    return views


def two_views(unit_NCHW: Tensor, settings: AugmentSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two independent views of every image, as SimCLR wants them."""
    return augmented(unit_NCHW, settings, generator), augmented(unit_NCHW, settings, generator)


def _moves(settings: AugmentSettings) -> bool:
    return settings.flip or settings.crop_scale != (1.0, 1.0) or settings.aspect > 1 or settings.rotation_degrees > 0


def _recolours(settings: AugmentSettings, num_channels: int) -> bool:
    grey = settings.brightness > 0 or settings.contrast > 0
    return grey or (num_channels == 3 and settings.saturation + settings.hue + settings.grey_probability > 0)


def _placements(random_NP: Tensor, settings: AugmentSettings) -> Tensor:
    """Theta [N, 2, 3] for `affine_grid`: where in the source (-1 to 1) each target pixel is read."""
    low, high = settings.crop_scale
    area = low + (high - low) * random_NP[:, 0]
    stretch = torch.exp(math.log(settings.aspect) * (random_NP[:, 1] - 0.5))  # square root of the aspect ratio
    width = (area.sqrt() * stretch).clamp_max(1.0)
    height = (area.sqrt() / stretch).clamp_max(1.0)
    centre_x = (1 - width) * (2 * random_NP[:, 2] - 1)
    centre_y = (1 - height) * (2 * random_NP[:, 3] - 1)
    angle = math.radians(settings.rotation_degrees) * (2 * random_NP[:, 4] - 1)
    mirror = torch.where(random_NP[:, 5] < 0.5, -1.0, 1.0) if settings.flip else torch.ones_like(angle)
    cosine, sine = angle.cos(), angle.sin()
    rows = (width * cosine * mirror, -height * sine, centre_x, width * sine * mirror, height * cosine, centre_y)
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def _partly_blurred(views: Tensor, chosen_N: Tensor) -> Tensor:
    blurred = functional.avg_pool2d(views, 3, stride=1, padding=1, count_include_pad=False)
    return torch.where(chosen_N[:, None, None, None], blurred, views)


def _recoloured(views: Tensor, random_NP: Tensor, settings: AugmentSettings) -> Tensor:
    """Contrast * (M views - mean) + mean * brightness, clamped to 0-1; M is identity for grey images."""
    factor = 2 * random_NP - 1
    brightness = (1 + settings.brightness * factor[:, 6]).view(-1, 1, 1, 1)
    contrast = (1 + settings.contrast * factor[:, 7]).view(-1, 1, 1, 1)
    if views.shape[1] == 3:
        views = torch.einsum("nij,njhw->nihw", _colour_matrices(random_NP, settings), views)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean * (brightness - contrast), views, contrast).clamp_(0.0, 1.0)


_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def _colour_matrices(random_NP: Tensor, settings: AugmentSettings) -> Tensor:
    """[N, 3, 3] on RGB: hue and saturation turn and scale the chroma plane of YIQ; greying scales it to 0."""
    to_yiq = _TO_YIQ.to(random_NP.device)
    chroma = 1 + settings.saturation * (2 * random_NP[:, 8] - 1)
    chroma = torch.where(random_NP[:, 10] < settings.grey_probability, 0.0, chroma)
    turn = settings.hue * (2 * random_NP[:, 9] - 1)
    one, zero = torch.ones_like(turn), torch.zeros_like(turn)
    cosine, sine = chroma * turn.cos(), chroma * turn.sin()
    in_yiq = torch.stack((one, zero, zero, zero, cosine, -sine, zero, sine, cosine), dim=1).view(-1, 3, 3)
    matrices_N33: Tensor = torch.linalg.inv(to_yiq) @ in_yiq @ to_yiq
    return matrices_N33
