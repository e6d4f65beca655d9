"""An encoder of ours, from its model files, as the `BatchEncoder` that workers run.

Shapes: N items, D dimensions of embeddings; FLOPs are two per multiply-add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fct_ray.errors import DataError
from fct_ray.models.flops import flops_per_item
from fct_ray.models.model_files import LoadedModel


class ModuleEncoder:
    """A `BatchEncoder` around an encoder from model files.

    `device` "auto" is CUDA where there is one, else the CPU. `batch_size` bounds memory; it also decides the
    arithmetic's order, so keep it fixed where embeddings must repeat bit for bit. ModelError for a transformation.
    """

    def __init__(self, model: LoadedModel, *, batch_size: int = 256, device: str = "auto") -> None:
        module, document = model.encoder(), model.document
        self.name, self.fingerprint = document.name, document.fingerprint
        self.dimension, self.metric, self.normalized = document.dimension, document.metric, document.normalized
        architecture = module.architecture
        example = torch.zeros(1, architecture.channels_in, architecture.image_size, architecture.image_size)
        self.flops_per_item = flops_per_item(module.cpu(), (example,))
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.batch_size = batch_size
        self.module = module.eval().to(self.device)

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND of columns["image"]; see `BatchEncoder`.

        Raises: DataError if there is no such column or an image is not uint8 with 1, 3 or 4 channels.
        """
        if "image" not in columns:
            raise DataError(f"items have the columns {sorted(columns)}; encoder {self.name!r} wants 'image'")
        images = columns["image"]
        embeddings_ND = np.empty((len(images), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                rows = slice(start, start + self.batch_size)
                embeddings_ND[rows] = self.module(self.module.prepare(images[rows])).cpu().numpy()
        return embeddings_ND
