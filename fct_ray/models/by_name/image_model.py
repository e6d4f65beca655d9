"""A pretrained network of a library as a `BatchEncoder`: photos through its own preprocessing, one feature vector each.

Owns: batches, the device, and scaling to unit length. Which network, and which preprocessing, say the modules of the kinds.
Shapes: N photos, D dimensions of embeddings; FLOPs are two per multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import DataError
from fct_ray.kinds import Metric
from fct_ray.models.by_name.weights import tensors_fingerprint
from fct_ray.models.flops import flops_per_item

BATCH = 32
_GREY = 1


class ImageModel:
    """A `BatchEncoder` around `network`, which takes what `prepare` makes of an RGB image, stacked, and gives features."""

    metric = Metric.IP
    normalized = True

    def __init__(
        self,
        name: str,
        network: nn.Module,
        prepare: Callable[[Image.Image], Tensor],
        settings: Mapping[str, Any],
        batch_size: int = BATCH,
    ) -> None:
        """`settings` say how images are prepared: with the weights they make the fingerprint."""
        self.name, self.prepare, self.batch_size = name, prepare, batch_size
        network = network.eval().requires_grad_(requires_grad=False)
        self.fingerprint = tensors_fingerprint(network.state_dict(), {**settings, "normalized": True})
        example = prepare(Image.new("RGB", (64, 64)))[None]
        self.flops_per_item = flops_per_item(network, (example,))
        with torch.inference_mode():
            self.dimension = int(network(example).shape[1])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device)

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND, unit length, of columns["image"]. Raises DataError if there is no such column."""
        images = photos(columns, self.name)
        embeddings_ND = np.empty((len(images), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                rows = slice(start, start + self.batch_size)
                batch = torch.stack([self.prepare(rgb(image)) for image in images[rows]])
                features = functional.normalize(self.network(batch.to(self.device)).float(), dim=1)
                embeddings_ND[rows] = features.cpu().numpy()
        return embeddings_ND


def photos(columns: Mapping[str, Any], name: str) -> Any:
    """The images of a batch. Raises DataError if there are none."""
    if "image" not in columns:
        raise DataError(f"items have the columns {sorted(columns)}; encoder {name!r} wants 'image'")
    return columns["image"]


def rgb(image_HWC: NDArray[np.uint8]) -> Image.Image:
    """Pixels uint8 [H, W, 1, 3 or 4] as an RGB image, transparent ones on white."""
    pixels = np.asarray(image_HWC)
    image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == _GREY else pixels)
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
