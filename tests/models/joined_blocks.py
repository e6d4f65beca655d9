"""Joined blocks of small random parts, and the plain formula for their vectors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from fct_ray.models.blocks import BlockTransformation, block, join_blocks
from fct_ray.models.model_files import LoadedModel, PackedModel, pack_model, unpack_model
from fct_ray.models.query_map import QueryMap
from fct_ray.models.transformation import (
    AnyTransformation,
    Transformation,
    TransformationArchitecture,
)
from fct_ray.models.whitening import Affine, Moments, whitening

Array = np.ndarray[Any, np.dtype[np.float32]]
OLD, SIDE, NEW = 6, 4, 5
WEIGHTS = (0.2, 0.1, 0.7)


def stored_vectors(rows: int = 50) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    old, side = rng.normal(size=(rows, OLD)) + 1, rng.normal(size=(rows, SIDE)) * 2 - 1
    return old.astype(np.float32), side.astype(np.float32)


def seen_h(*, side_dimension: int = SIDE, normalized: bool = True) -> Transformation:
    """An h whose BatchNorms have seen data."""
    torch.manual_seed(1)
    module = Transformation(
        TransformationArchitecture(
            old_dimension=OLD, side_dimension=side_dimension, new_dimension=NEW, inner=16, normalized=normalized
        )
    )
    old, side = map(torch.from_numpy, stored_vectors())
    for _ in range(3):
        module(old, side if side_dimension else None)
    return module.eval()


def whitenings() -> tuple[Affine, Affine]:
    old, side = (whitening(Moments.of(rows), exponent=0.5) for rows in stored_vectors(400))
    return old, dataclasses.replace(side, projection_DP=side.projection_DP[:, :3])


def joined(**settings: Any) -> BlockTransformation:
    old, side = whitenings()
    parts = [
        block("old", WEIGHTS[0], old),
        block("side", WEIGHTS[1], side),
        block("h", WEIGHTS[2], seen_h(), **settings),
    ]
    return join_blocks(parts)


def pack(module: AnyTransformation) -> PackedModel:
    return pack_model(
        module,
        kind="transformation",
        name="h",
        provenance={},
        from_encoder="a",
        to_encoder="b",
        side_fingerprint="c" if module.architecture.side_dimension else None,
    )


def load(module: AnyTransformation) -> LoadedModel:
    packed = pack(module)
    return unpack_model(packed.model_json, packed.weights, "m")


def query_map_of(module: AnyTransformation) -> QueryMap:
    packed = pack(module)
    return QueryMap.of(packed.document, packed.weights, "m")


def run(module: torch.nn.Module, *inputs: Array | None) -> Array:
    with torch.inference_mode():
        output: Array = module(*(None if array is None else torch.from_numpy(array) for array in inputs)).numpy()
    return output


def unit(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def as_float(rows: np.ndarray[Any, Any]) -> Array:
    return rows.astype(np.float32)


def by_hand(old: Array, side: Array, new: Array) -> Array:
    old_map, side_map = whitenings()
    parts: tuple[np.ndarray[Any, Any], ...] = (
        (old - old_map.mean_D) @ old_map.projection_DP,
        (side - side_map.mean_D) @ side_map.projection_DP,
        new,
    )
    return np.concatenate([unit(as_float(part)) * w**0.5 for part, w in zip(parts, WEIGHTS, strict=True)], axis=1)
