"""`torchvision:NAME[?weights=NAME_OR_FILE]`: a network of torchvision without its classifier, e.g. `torchvision:resnet50`.

Owns: which features (what the last linear layer reads) and which preprocessing (the one that the weights come with).
Without `weights` torchvision's default ones for that network are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.by_name.image_model import BATCH, ImageModel
from fct_ray.models.by_name.registry import count_option
from fct_ray.models.by_name.weights import check_reachable, tensors_of_file

OPTIONS = ("weights", "batch")


def open_named(spec: str, location: str, options: Mapping[str, str]) -> BatchEncoder:
    """The network with weights that torchvision fetches or has fetched, or with those of a file.

    Raises:
        SettingsError: torchvision has no such network or weights, or the network ends in no linear layer.
        ModelError: the weights cannot be had.
    """
    from torchvision import models

    if location not in models.list_models(module=models):
        near = ", ".join(models.list_models(module=models, include=f"{location[:6]}*")[:5]) or "resnet50"
        raise SettingsError(f"encoder {spec!r}: torchvision has no network {location!r}; near it: {near}")
    kinds, wanted = models.get_model_weights(location), options.get("weights", "DEFAULT")
    is_named, known = wanted in kinds.__members__, ", ".join(kinds.__members__) or "none"
    if not is_named and not Path(wanted).is_file():
        raise SettingsError(
            f"encoder {spec!r}: weights {wanted!r} are neither a file nor of torchvision, which has {known}"
        )
    weights = kinds[wanted if is_named else "DEFAULT"]
    if is_named:
        network = _fetched(spec, location, weights)
    else:
        network = models.get_model(location, weights=None)
        _load_file(spec, network, wanted)
    prepare = weights.transforms()
    described = {"kind": "torchvision", "name": location, "prepare": repr(prepare)}
    network = _without_classifier(spec, network)
    return ImageModel(spec, network, prepare, described, count_option(spec, options, "batch", BATCH))


def _fetched(spec: str, name: str, weights: Any) -> nn.Module:
    """The network with weights that torchvision keeps on this machine, fetched if they are not there yet."""
    from torchvision import models

    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]).is_file():
        check_reachable(spec, weights.url)
    try:
        network: nn.Module = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # urllib's errors too; a download with another hash
        raise ModelError(f"encoder {spec!r}: its weights cannot be fetched: {error}; run again") from error
    return network


def _load_file(spec: str, network: nn.Module, file: str) -> None:
    try:
        network.load_state_dict(tensors_of_file(spec, file))
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise ModelError(f"encoder {spec!r}: {file} has no weights of that network: {said:.300}") from error


def _without_classifier(spec: str, network: nn.Module) -> nn.Module:
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    if not last:
        raise SettingsError(
            f"encoder {spec!r}: this network ends in no linear layer, so it has no features; take another one"
        )
    network.set_submodule(last[0], nn.Identity())
    return network
