"""`timm:NAME[?weights=FILE]`: a network of timm without its classifier, e.g. `timm:resnet50.a1_in1k`.

Owns: which features (pooled, before the classifier) and which preprocessing (the one that the weights were made with).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.by_name.image_model import BATCH, ImageModel
from fct_ray.models.by_name.registry import count_option, missing_extra
from fct_ray.models.by_name.weights import check_reachable, tensors_of_file

OPTIONS = ("weights", "batch")


def open_named(spec: str, location: str, options: Mapping[str, str]) -> BatchEncoder:
    """The network with its pretrained weights, or with those of a file.

    Raises:
        SettingsError: timm is not installed, or has no such network.
        ModelError: the weights cannot be had.
    """
    try:
        import timm
    except ImportError as error:
        raise missing_extra(spec, "timm", error) from error
    name, file = location, options.get("weights")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"{name.partition('.')[0][:6]}*")[:5]) or "timm.list_models()"
        raise SettingsError(f"encoder {spec!r}: timm has no network {name!r}; near it: {near}")
    network = _from_file(timm, spec, name, file) if file else _pretrained(timm, spec, name)
    settings = timm.data.resolve_model_data_config(network)
    prepare = timm.data.create_transform(**settings, is_training=False)
    described = {"kind": "timm", "name": name.partition(".")[0], **settings}
    return ImageModel(spec, network, prepare, described, count_option(spec, options, "batch", BATCH))


def _from_file(timm: Any, spec: str, name: str, file: str) -> Any:
    if not Path(file).is_file():
        raise SettingsError(f"encoder {spec!r}: there is no file {file}; want weights of {name}")
    network = timm.create_model(name, num_classes=0)
    classifiers = network.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    weights = {key: value for key, value in tensors_of_file(spec, file).items() if not key.startswith(heads)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ModelError(f"encoder {spec!r}: {file} has no weights of {name}: {said:.300}") from error
    return network


def _pretrained(timm: Any, spec: str, name: str) -> Any:
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}*")[:5]) or "none"
        raise SettingsError(
            f"encoder {spec!r}: timm has no weights of {name}; want {name}?weights=FILE, or one of: {tags}"
        )
    if config.hf_hub_id and not _is_cached(config):
        check_reachable(spec)
    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"encoder {spec!r}: its weights cannot be read: {str(error).splitlines()[0]:.300}") from error


def _is_cached(config: Any) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = str(config.hf_hub_id).partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, name, revision=revision or None), str) for name in names)
