"""`open-clip:NAME?weights=TAG_OR_FILE`, or `open-clip:hf-hub:ORGANISATION/NAME`: a CLIP model of open_clip.

Images and texts come into one space, so that texts can search photos. Owns: which of the two a batch is embedded as.
Shapes: N items, D dimensions of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.by_name.image_model import BATCH, ImageModel
from fct_ray.models.by_name.registry import count_option, missing_extra
from fct_ray.models.by_name.weights import check_reachable

OPTIONS = ("weights", "batch")
_HUB = "hf-hub:"


def open_named(spec: str, location: str, options: Mapping[str, str]) -> BatchEncoder:
    """The model with weights of open_clip, of the hub, or of a file.

    Raises:
        SettingsError: open_clip is not installed, or knows no such model or weights.
        ModelError: the weights cannot be had.
    """
    try:
        import open_clip
    except ImportError as error:
        raise missing_extra(spec, "open-clip", error) from error
    weights = options.get("weights")
    _check_known(open_clip, spec, location, weights)
    if not _is_here(open_clip, location, weights):
        check_reachable(spec)
    try:
        model, _, prepare = open_clip.create_model_and_transforms(location, pretrained=weights)
        tokenize = open_clip.get_tokenizer(location)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"encoder {spec!r}: its weights cannot be read: {str(error).splitlines()[0]:.300}") from error
    described = {"kind": "open-clip", "name": location, "prepare": repr(prepare)}
    return ClipEncoder(spec, model, prepare, tokenize, described, count_option(spec, options, "batch", BATCH))


class ClipEncoder(ImageModel):
    """An `ImageModel` whose texts are embedded into the space of its images."""

    def __init__(
        self,
        name: str,
        model: Any,
        prepare: Callable[[Any], Tensor],
        tokenize: Callable[[Sequence[str]], Tensor],
        settings: Mapping[str, Any],
        batch_size: int,
    ) -> None:
        """`settings` say how images are prepared."""
        super().__init__(name, _Images(model), prepare, settings, batch_size)
        self.model, self.tokenize = model, tokenize

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND, unit length, of images, or of texts where there are none. Raises DataError if there are neither."""
        if "image" in columns or "text" not in columns:
            return super().encode(columns)
        texts = list(columns["text"])
        embeddings_ND = np.empty((len(texts), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                rows = slice(start, start + self.batch_size)
                tokens = self.tokenize(texts[rows]).to(self.device)
                embeddings_ND[rows] = self.model.encode_text(tokens, normalize=True).float().cpu().numpy()
        return embeddings_ND


class _Images(nn.Module):
    """The image side alone; its weights are those of the whole model, so that the fingerprint covers the texts' too."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Features [N, D]."""
        features: Tensor = self.model.encode_image(images_NCHW)
        return features


def _check_known(open_clip: Any, spec: str, name: str, weights: str | None) -> None:
    if name.startswith(_HUB):
        return
    if name not in open_clip.list_models():
        near = (
            ", ".join(model for model in open_clip.list_models() if model[:5] == name[:5]) or "open_clip.list_models()"
        )
        raise SettingsError(f"encoder {spec!r}: open_clip has no model {name!r}; near it: {near}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights is None or (weights not in tags and not Path(weights).is_file()):
        seen = "no weights are named" if weights is None else f"{weights!r} are neither a file nor weights of {name}"
        raise SettingsError(
            f"encoder {spec!r}: {seen}; want {name}?weights=TAG, TAG one of {', '.join(tags) or 'none'}"
        )


def _is_here(open_clip: Any, name: str, weights: str | None) -> bool:
    """Whether no download is needed."""
    from huggingface_hub import try_to_load_from_cache

    if weights is not None and Path(weights).is_file():
        return True
    repository = name.removeprefix(_HUB) if name.startswith(_HUB) else ""
    if not repository:
        config = open_clip.get_pretrained_cfg(name, weights)
        repository = str(config.get("hf_hub", "")).rstrip("/")
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.safetensors")
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, file), str) for file in names)
