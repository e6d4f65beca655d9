"""Architectures of transformations: what decides the shape of h, of h with a correction, and of joined blocks.

Owns: the values in model.json that describe a transformation, what they must fulfil, and reading them back. Knows no
weights and does not import torch: a searcher asks which queries a version needs without paying for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar

import pydantic

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.model_json import ModelDocument, plain_json

TransformationKind = Literal["mlp", "linear"]
Reads = Literal["old", "side", "h"]
_MOST = 1 << 24
"""No dimension or width of an architecture is larger; above, torch fails in ways of its own."""
_WEIGHTS_TOLERANCE = 1e-6
"""How far the sum of the blocks' weights may be from 1: rounding of a few decimal fractions, no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformationArchitecture:
    """Everything that decides the shape of h.

    `side_dimension` 0 means no side-information: the mlp then sees the old embedding twice, as in the paper, the
    linear control once. `inner` is the mlp's width. `normalized` makes the output unit length (cosine spaces).

    Raises: SettingsError for an unknown kind or a dimension that is not positive.
    """

    kind: TransformationKind = "mlp"
    old_dimension: int
    side_dimension: int = 0
    new_dimension: int
    inner: int = 2048
    normalized: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("mlp", "linear"):
            raise SettingsError(f"kind of transformation is {self.kind!r}; wanted 'mlp' or 'linear'")
        _check_least(self, "the transformation", old_dimension=1, side_dimension=0, new_dimension=1, inner=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrectedArchitecture:
    """h and a correction of it by the pairs that are near: see `fct_ray/models/correction.py`.

    `base` is h; it may leave the side-information out that the correction reads. `num_pairs` pairs are kept.

    Raises: SettingsError where the dimensions of `base` are others, or a dimension is not positive.
    """

    kind: Literal["corrected"] = "corrected"
    base: TransformationArchitecture
    num_pairs: int
    old_dimension: int
    side_dimension: int = 0
    new_dimension: int
    normalized: bool = True

    def __post_init__(self) -> None:
        _check_kind(self.kind, "corrected")
        _check_least(
            self, "the corrected transformation", num_pairs=1, old_dimension=1, side_dimension=0, new_dimension=1
        )
        _check_inner(self.base, self.old_dimension, self.side_dimension, self.new_dimension)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockArchitecture:
    """One block of a version's vector.

    `reads` says from which vector of an item it comes: "old", "side", or "h", which is `transformation` of both.
    `weight` is its share of the score. With `projected` it is (x - mean) @ projection, from `in_dimension` to
    `out_dimension` coordinates, before it is normalised. A query brings `query_dimension` coordinates of which the
    first `in_dimension` count (None: it brings `in_dimension`); more only for "h".

    Raises: SettingsError where weight, dimensions or transformation do not fit.
    """

    reads: Reads
    weight: float
    in_dimension: int
    out_dimension: int
    projected: bool
    query_dimension: int | None = None
    transformation: TransformationArchitecture | CorrectedArchitecture | None = None

    def __post_init__(self) -> None:
        if self.reads not in ("old", "side", "h"):
            raise SettingsError(f"a block reads {self.reads!r}; wanted 'old', 'side' or 'h'")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise SettingsError(f"weight of block {self.reads!r} is {self.weight}; wanted more than 0")
        _check_least(self, f"block {self.reads!r}", in_dimension=1, out_dimension=1)
        if not self.projected and self.in_dimension != self.out_dimension:
            raise SettingsError(
                f"block {self.reads!r} goes from {self.in_dimension} to {self.out_dimension} dimensions without a "
                "projection; wanted the same number, or projected=True"
            )
        if self.query_width < self.in_dimension or (self.reads != "h" and self.query_width > self.in_dimension):
            raise SettingsError(
                f"block {self.reads!r} takes queries of {self.query_dimension} dimensions; wanted {self.in_dimension}"
                + (" or more" if self.reads == "h" else "")
            )
        if (self.transformation is not None) != (self.reads == "h"):
            raise SettingsError(
                f"block {self.reads!r}: a transformation belongs to a block that reads 'h', and to no other"
            )
        if self.transformation is not None and self.transformation.new_dimension != self.in_dimension:
            raise SettingsError(
                f"block 'h' has in_dimension {self.in_dimension}; its transformation gives "
                f"{self.transformation.new_dimension}: wanted the same"
            )

    @property
    def query_width(self) -> int:
        """How many coordinates a query's vector has for this block."""
        return self.in_dimension if self.query_dimension is None else self.query_dimension


@dataclass(frozen=True, kw_only=True, slots=True)
class BlocksArchitecture:
    """A version's vector as weighted blocks, joined in their order; see `fct_ray/models/blocks.py`.

    `side_dimension` is 0 where neither a block nor a block's transformation reads side-information. `old_dimension` is
    that of the store even where no block reads it. `normalized` is always true: the weights sum to 1.

    Raises: SettingsError where the blocks do not fit together.
    """

    kind: Literal["blocks"] = "blocks"
    blocks: tuple[BlockArchitecture, ...]
    old_dimension: int
    side_dimension: int = 0
    new_dimension: int
    normalized: bool = True

    def __post_init__(self) -> None:
        _check_kind(self.kind, "blocks")
        _check_least(self, "the blocks", old_dimension=1, side_dimension=0, new_dimension=1)
        total = sum(block.weight for block in self.blocks)
        if abs(total - 1.0) > _WEIGHTS_TOLERANCE:
            raise SettingsError(f"weights of the {len(self.blocks)} blocks sum to {total:.9g}; wanted 1")
        width = sum(block.out_dimension for block in self.blocks)
        if width != self.new_dimension:
            raise SettingsError(f"the blocks have {width} dimensions together; new_dimension is {self.new_dimension}")
        if not self.normalized:
            raise SettingsError("joined blocks are always normalized; wanted normalized=True")
        for block in self.blocks:
            wanted = {"old": self.old_dimension, "side": self.side_dimension, "h": block.in_dimension}[block.reads]
            if block.in_dimension != wanted:
                raise SettingsError(
                    f"block {block.reads!r} has in_dimension {block.in_dimension}; the {block.reads} vectors have {wanted}"
                )
            if block.transformation is not None:
                _check_inner(block.transformation, self.old_dimension, self.side_dimension, block.in_dimension)
        if (self.side_dimension > 0) != any(map(_reads_side, self.blocks)):
            raise SettingsError(
                f"side_dimension of the blocks is {self.side_dimension}; wanted one above 0 exactly where a block reads it"
            )
        widths = {block.query_width for block in self.blocks if block.reads == "h"}
        if len(widths) > 1:
            raise SettingsError(
                f"blocks 'h' take new queries of {sorted(widths)} dimensions; wanted one dimension for all"
            )


AnyTransformationArchitecture = TransformationArchitecture | CorrectedArchitecture | BlocksArchitecture


class _Architecture(Protocol):
    @property
    def normalized(self) -> bool: ...


_ArchitectureT = TypeVar("_ArchitectureT", bound=_Architecture)


def read_transformation_architecture(document: ModelDocument, uri: str) -> AnyTransformationArchitecture:
    """The architecture of a transformation's document; `uri` is only for messages. Raises: ModelError."""
    kind = document.architecture.get("kind")
    if kind == "blocks":
        return read_architecture(document, BlocksArchitecture, uri)
    if kind == "corrected":
        return read_architecture(document, CorrectedArchitecture, uri)
    return read_architecture(document, TransformationArchitecture, uri)


def read_architecture(document: ModelDocument, kind: type[_ArchitectureT], uri: str) -> _ArchitectureT:
    """The document's architecture as a `kind`, by strict reading; `uri` is only for messages.

    Raises:
        ModelError: fields are unknown, missing, of another type, too large, or contradict each other or the document.
    """
    try:
        text = json.dumps(document.architecture)
        architecture = pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    except (pydantic.ValidationError, SettingsError) as error:
        raise ModelError(
            f"{uri}: unknown architecture {document.architecture!s:.300}: {error!s:.500}; use a matching release"
        ) from error
    fields = plain_json(asdict(architecture))  # type: ignore[call-overload]  # every architecture is a dataclass
    if fields != document.architecture:
        seen, wanted = sorted(document.architecture), sorted(fields)
        raise ModelError(f"{uri}: architecture has the fields {seen}; wanted {wanted}; use a matching release")
    if any(number > _MOST for number in _numbers(fields)):
        raise ModelError(
            f"{uri}: architecture {document.architecture!s:.300} has a number above {_MOST:,}; pack it again"
        )
    if (output_dimension(architecture), architecture.normalized) != (document.dimension, document.normalized):
        raise ModelError(f"{uri}: dimension or normalized of model.json contradicts its architecture; pack it again")
    return architecture


def output_dimension(architecture: _Architecture) -> int:
    """The dimension of what a module of this architecture gives: `new_dimension`, or an encoder's `dimension`."""
    name = "new_dimension" if hasattr(architecture, "new_dimension") else "dimension"
    dimension: int = getattr(architecture, name)
    return dimension


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


def _reads_side(block: BlockArchitecture) -> bool:
    inner = block.transformation
    return block.reads == "side" or (inner is not None and inner.side_dimension > 0)


def _check_kind(seen: str, wanted: str) -> None:
    if seen != wanted:
        raise SettingsError(f"kind of transformation is {seen!r}; wanted {wanted!r}")


def _check_least(architecture: object, what: str, **least: int) -> None:
    for name, number in least.items():
        if getattr(architecture, name) < number:
            raise SettingsError(f"{name} of {what} is {getattr(architecture, name)}; wanted at least {number}")


def _check_inner(inner: TransformationArchitecture | CorrectedArchitecture, old: int, side: int, new: int) -> None:
    """An inner transformation reads the vectors of the outer one, side-information or not."""
    seen = (inner.old_dimension, inner.side_dimension, inner.new_dimension)
    if seen not in ((old, 0, new), (old, side, new)):
        raise SettingsError(
            f"the inner transformation maps (old, side) -> new of {seen} dimensions; wanted {(old, side, new)}, or no side"
        )
