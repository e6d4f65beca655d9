"""Encoders as workers see them: columns of raw items in, float32 embeddings out.

Owns: the protocol, and how an encoder of a user's own code is found by its import path. Does not import torch. Shapes: N
items, D dimensions of embeddings; FLOPs are two per multiply-add.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import ModelError
from fct_ray.kinds import Metric
from fct_ray.values import Usage


@runtime_checkable
class BatchEncoder(Protocol):
    """What turns raw items into embeddings; a user's own encoder needs just these seven names.

    `fingerprint` must change whenever the same item would get another embedding: a hash of the weights and
    settings, or the provider's model version. `flops_per_item` may be 0.0 where it cannot be known (an API);
    compute comparisons then say so.
    """

    name: str
    fingerprint: str
    flops_per_item: float

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""

    @property
    def metric(self) -> Metric:
        """How its embeddings are compared."""

    @property
    def normalized(self) -> bool:
        """Whether its embeddings have length 1."""

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND float32 of one batch, in order.

        `columns` has "image" (uint8 NHWC array, or a list of HWC arrays of unequal size) or "text" (list of str).
        """


@runtime_checkable
class CountsUsage(Protocol):
    """An encoder that counts what nobody else can see, such as the tokens of an endpoint; no encoder need do so."""

    def take_usage(self) -> Usage:
        """What was used since the last call."""


def encode_metered(encoder: BatchEncoder, columns: Mapping[str, Any]) -> tuple[NDArray[np.float32], Usage]:
    """embeddings_ND of one batch, and the FLOPs and GPU seconds that it took.

    GPU seconds are the wall time of the whole call where the encoder runs on a GPU: its embeddings come back as a NumPy
    array, so that its GPU has finished by then. What the encoder counts itself, see `CountsUsage`, is added.
    """
    start_s = time.perf_counter()
    embeddings_ND = encoder.encode(columns)
    busy_gpu_s = time.perf_counter() - start_s if runs_on_gpu(encoder) else 0.0
    usage = Usage(flops=encoder.flops_per_item * len(embeddings_ND), busy_gpu_s=busy_gpu_s)
    return embeddings_ND, usage + (encoder.take_usage() if isinstance(encoder, CountsUsage) else Usage())


def runs_on_gpu(encoder: BatchEncoder) -> bool:
    """Whether an encoder computes on a GPU: its `device` says so; without one, whether this process has used CUDA.

    `device` is a name such as "cuda:0" or a `torch.device`. A user's encoder need not have it.
    """
    device = getattr(encoder, "device", None)
    kind = device if isinstance(device, str) else getattr(device, "type", None)
    if isinstance(kind, str):
        return kind.partition(":")[0] != "cpu"
    torch = sys.modules.get("torch")  # an encoder that does not use it need not wait for its import
    return torch is not None and bool(torch.cuda.is_initialized())


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
