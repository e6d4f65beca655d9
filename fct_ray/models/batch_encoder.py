"""Encoders as the engine sees them: columns of raw items in, float32 embeddings out.

Owns: the protocol, its implementation over our own model files, and the door for the user's own code. Knows no
source of items and no worker. Shapes: N items, D dim of embeddings; FLOPs two per multiply-add.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from fct_ray.errors import DataError, ModelError
from fct_ray.models.files import LoadedModel
from fct_ray.models.flops import flops_per_item
from fct_ray.values import Metric


@runtime_checkable
class BatchEncoder(Protocol):
    """What turns raw items into embeddings; a user's own encoder needs just these seven names.

    `fingerprint` must change whenever the same item would get another embedding: a hash of the weights and
    settings, or the provider's model version. `flops_per_item` may be 0.0 where it cannot be known (an API);
    compute comparisons then say so.
    """

    name: str
    fingerprint: str
    dimension: int
    metric: Metric
    normalized: bool
    flops_per_item: float

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND float32 of one batch, in order.

        `columns` has "image" (uint8 NHWC array, or a list of HWC arrays of unequal size) or "text" (list of str).
        """


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


def load_factory(spec: str) -> BatchEncoder:
    """What `factory()` of the import path "package.module:factory" returns, checked against the protocol.

    Raises: ModelError if it cannot be imported, cannot be called without arguments, or lacks a part.
    """
    module_name, _, factory_name = spec.partition(":")
    if not module_name or not factory_name:
        raise ModelError(f"encoder {spec!r} is no import path; wanted package.module:factory")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"encoder {spec!r} cannot be imported ({error}); put its package on PYTHONPATH of the driver and of every "
            "worker (Ray: runtime_env working_dir or py_modules)"
        ) from error
    if not callable(factory):
        raise ModelError(f"encoder {spec!r} is a {type(factory).__name__}; wanted a function without arguments")
    encoder = factory()
    _check_protocol(encoder, spec)
    return encoder  # type: ignore[no-any-return] # checked name by name


def check_encoder(encoder: BatchEncoder) -> None:
    """Refuse an object that is no encoder. Raises ModelError, which names what it lacks."""
    _check_protocol(encoder, f"<{type(encoder).__name__}>")


def _check_protocol(encoder: Any, spec: str) -> None:
    wanted: dict[str, type | tuple[type, ...]] = {
        "name": str,
        "fingerprint": str,
        "dimension": int,
        "metric": Metric,
        "normalized": bool,
        "flops_per_item": (int, float),
    }
    advice = "see fct_ray.models.batch_encoder.BatchEncoder"
    for attribute, kind in wanted.items():
        if not hasattr(encoder, attribute):
            raise ModelError(f"encoder {spec!r} returned a {type(encoder).__name__} without {attribute!r}; {advice}")
        value = getattr(encoder, attribute)
        if not isinstance(value, kind):
            raise ModelError(f"{attribute!r} of encoder {spec!r} is {value!r}; wanted {kind}; {advice}")
    if not callable(getattr(encoder, "encode", None)):
        raise ModelError(f"encoder {spec!r} returned a {type(encoder).__name__} without encode(columns); {advice}")
    if not encoder.name or not encoder.fingerprint or encoder.dimension < 1 or encoder.flops_per_item < 0:
        raise ModelError(f"encoder {spec!r} has an empty name or fingerprint, or a negative number; {advice}")
