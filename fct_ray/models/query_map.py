"""What a query must bring to search a version, and the vector it is searched with.

A version of joined blocks (`fct_ray/models/blocks.py`) is searched by a query of the same blocks: the old query
embedding where an item's old vector is, its side-information likewise, and the new query embedding in the place of h.
Any other version is searched by the new query embedding as it is.

Owns: that map, from a model's two files. Does not import torch: a searcher opens without it.

Shapes: Q queries, O dim of old, S dim of side-information, W dim of the version's vectors, I and P a block's dims in
and out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.architectures import (
    BlockArchitecture,
    BlocksArchitecture,
    read_transformation_architecture,
)
from fct_ray.models.model_json import ModelDocument

FloatArray = npt.NDArray[np.float32]
ROLES = ("old", "side", "new")
"""Whose embedding of a query: the old encoder's, the side model's, the new encoder's."""
_SMALLEST_LENGTH = 1e-12
"""Rows shorter than this are not blown up to unit length; the same as in torch's normalize."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _QueryBlock:
    """One block of a query: which vector it reads and how."""

    role: str
    architecture: BlockArchitecture
    mean_I: FloatArray | None
    projection_IP: FloatArray | None

    def rows(self, vectors_QD: FloatArray) -> FloatArray:
        """block_QP of length sqrt(weight)."""
        rows_QI = vectors_QD[:, : self.architecture.in_dimension]
        inner = self.architecture.transformation
        if inner is not None and inner.normalized:  # as the transformation's own output is
            rows_QI = _unit(rows_QI)
        if self.mean_I is not None and self.projection_IP is not None:
            rows_QI = ((rows_QI - self.mean_I) @ self.projection_IP).astype(np.float32, copy=False)
        return _unit(rows_QI) * np.float32(np.sqrt(self.architecture.weight))


class QueryMap:
    """From a query's embeddings to the vector that searches a version; made by `QueryMap.of`."""

    needs: tuple[str, ...]
    """Which embeddings of a query it takes, of "old", "side" and "new", in this order."""
    dimensions: Mapping[str, int]
    """How many dimensions each of them has."""
    new_dimension: int
    """Dimension of the vectors it gives, which is that of the version."""

    def __init__(self, *, dimensions: Mapping[str, int], new_dimension: int, blocks: tuple[_QueryBlock, ...]) -> None:
        self.needs = tuple(role for role in ROLES if role in dimensions)
        self.dimensions = {role: dimensions[role] for role in self.needs}
        self.new_dimension = new_dimension
        self._blocks = blocks

    @classmethod
    def of(cls, document: ModelDocument, weights: bytes | None, uri: str) -> QueryMap:
        """The map of the transformation that made a version; `uri` is only for messages.

        `weights` are the bytes of its weights.safetensors; None will do where `takes_new_alone(document)`.

        Raises:
            ModelError: the document is no transformation's, or the weights are missing or not those that it names.
        """
        if document.kind != "transformation":
            raise ModelError(
                f"{uri} is a model of kind {document.kind!r}; wanted a transformation: name the one of the version"
            )
        architecture = read_transformation_architecture(document, uri)
        if not isinstance(architecture, BlocksArchitecture):
            return cls(dimensions={"new": document.dimension}, new_dimension=document.dimension, blocks=())
        arrays = _arrays(document, weights, uri)
        blocks = tuple(_query_block(number, part, arrays, uri) for number, part in enumerate(architecture.blocks))
        dimensions = {block.role: block.architecture.query_width for block in blocks}
        return cls(dimensions=dimensions, new_dimension=document.dimension, blocks=blocks)

    def __call__(self, vectors: Mapping[str, FloatArray]) -> FloatArray:
        """The vectors to search with, [Q, new_dimension], from the embeddings of Q queries by role, each [Q, D].

        Raises: SettingsError for a role that is missing or superfluous, or an array of another shape.
        """
        self._check(vectors)
        if not self._blocks:
            return vectors["new"]
        return np.concatenate([block.rows(vectors[block.role]) for block in self._blocks], axis=1, dtype=np.float32)

    def stored_parts(self, role: str, vectors_QD: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Which columns of joined blocks stand for embeddings of this role, and what they are for these, block by block."""
        start = 0
        for block in self._blocks:
            stop = start + block.architecture.out_dimension
            if block.role == role:
                yield slice(start, stop), block.rows(vectors_QD)
            start = stop

    def _check(self, vectors: Mapping[str, FloatArray]) -> None:
        if set(vectors) != set(self.needs):
            raise SettingsError(
                f"a query brings the embeddings {sorted(vectors)}; this version wants {list(self.needs)}: embed the query "
                "with the models of these roles, and no others"
            )
        num_queries = len(vectors[self.needs[0]])
        for role in self.needs:
            seen, wanted = vectors[role].shape, (num_queries, self.dimensions[role])
            if seen != wanted:
                raise SettingsError(
                    f"{role} embeddings of the queries have shape {list(seen)}; wanted {list(wanted)}: embed the queries "
                    f"with the {role} model of this version"
                )


def takes_new_alone(document: ModelDocument) -> bool:
    """Whether a version that this transformation made is searched by the new query embedding as it is."""
    return document.architecture.get("kind") != "blocks"


def _query_block(number: int, part: BlockArchitecture, arrays: Mapping[str, FloatArray], uri: str) -> _QueryBlock:
    mean_I = projection_IP = None
    if part.projected:
        mean_I = _array(arrays, f"blocks.{number}.mean", (part.in_dimension,), uri)
        projection_IP = _array(arrays, f"blocks.{number}.projection", (part.in_dimension, part.out_dimension), uri)
    role = "new" if part.reads == "h" else part.reads
    return _QueryBlock(role=role, architecture=part, mean_I=mean_I, projection_IP=projection_IP)


def _array(arrays: Mapping[str, FloatArray], name: str, shape: tuple[int, ...], uri: str) -> FloatArray:
    array = arrays.get(name)
    if array is None or array.shape != shape:
        seen = "missing" if array is None else f"of shape {list(array.shape)}"
        raise ModelError(f"{uri}: tensor {name!r} is {seen}; wanted {list(shape)}: pack the original model")
    return array


def _arrays(document: ModelDocument, weights: bytes | None, uri: str) -> Mapping[str, FloatArray]:
    if weights is None or hashlib.sha256(weights).hexdigest() != document.weights_sha256:
        seen = "missing" if weights is None else "not those that model.json names (sha256)"
        raise ModelError(f"{uri}: the weights are {seen}; copy the directory again")
    try:
        arrays: dict[str, FloatArray] = load_arrays(weights)
    except SafetensorError as error:
        raise ModelError(f"{uri}: weights.safetensors cannot be read ({error}); copy the directory again") from error
    return arrays


def _unit(rows_QP: FloatArray) -> FloatArray:
    lengths_Q1 = np.linalg.norm(rows_QP, axis=1, keepdims=True)
    unit_QP: FloatArray = rows_QP / np.maximum(lengths_Q1, _SMALLEST_LENGTH)
    return unit_QP
