"""A version's vector as weighted blocks, joined into one vector that is searched by inner product.

```
old_NO ---- (x - mean) @ projection -- normalise -- * sqrt(weight) --+
side_NS --- (x - mean) @ projection -- normalise -- * sqrt(weight) --+-- cat -> new_NW
both -- h - (x - mean) @ projection -- normalise -- * sqrt(weight) --+
```

The inner product of two such vectors is the sum over the blocks of weight * cosine in the block. Queries are made
by `fct_ray/models/query_map.py` from a query's own vectors, the new one in the place of h.

Owns: the forward pass and joining parts. Knows not how the parts were fitted.

Shapes: N rows, O dim of old, S dim of side-information, W dim of new, I and P a block's dims in and out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import SettingsError
from fct_ray.models.architectures import (
    BlockArchitecture,
    BlocksArchitecture,
    CorrectedArchitecture,
    Reads,
    TransformationArchitecture,
)
from fct_ray.models.whitening import Affine


class Block(nn.Module):
    """One block: what it reads, projected if it has a projection, at length sqrt(weight)."""

    mean: Tensor
    projection: Tensor

    def __init__(self, architecture: BlockArchitecture, transformation: nn.Module | None = None) -> None:
        """`transformation` is a module of the architecture's transformation, None where it has none."""
        super().__init__()
        self.architecture = architecture
        self.transformation = transformation
        if architecture.projected:
            self.register_buffer("mean", torch.zeros(architecture.in_dimension))
            self.register_buffer("projection", torch.zeros(architecture.in_dimension, architecture.out_dimension))

    def forward(self, old_NO: Tensor, side_NS: Tensor | None) -> Tensor:
        """block_NP, float32, of length sqrt(weight); a row of zeros stays one."""
        rows_NI = self._rows(old_NO, side_NS).float()
        if self.architecture.projected:
            rows_NI = (rows_NI - self.mean) @ self.projection
        return functional.normalize(rows_NI, dim=1) * math.sqrt(self.architecture.weight)

    def _rows(self, old_NO: Tensor, side_NS: Tensor | None) -> Tensor:
        if self.architecture.transformation is not None and self.transformation is not None:
            reads_side = self.architecture.transformation.side_dimension > 0
            rows_NI: Tensor = self.transformation(old_NO, side_NS if reads_side else None)
            return rows_NI
        if self.architecture.reads == "old":
            return old_NO
        if side_NS is None:
            raise SettingsError("a block reads side-information and there is none; pass the store's side_info column")
        return side_NS


class BlockTransformation(nn.Module):
    """Blocks joined in their order; the output has unit length where no block is zero."""

    def __init__(self, architecture: BlocksArchitecture, blocks: Sequence[Block]) -> None:
        """`blocks` are modules of the architecture's blocks, in their order; `join_blocks` makes both from parts."""
        super().__init__()
        if tuple(block.architecture for block in blocks) != architecture.blocks:
            raise SettingsError("the blocks are not those of the architecture; make both with join_blocks")
        self.architecture = architecture
        self.blocks = nn.ModuleList(blocks)

    def forward(self, old_NO: Tensor, side_NS: Tensor | None = None) -> Tensor:
        """new_NW, float32.

        Raises: SettingsError if side-information is there but not wanted, or wanted but not there.
        """
        seen = 0 if side_NS is None else side_NS.shape[1]
        if seen != self.architecture.side_dimension:
            raise SettingsError(
                f"side-information has {seen} dimensions; these blocks were made for {self.architecture.side_dimension}; "
                "pass the store's side_info column, or make blocks for the store at hand"
            )
        return torch.cat([block(old_NO, side_NS) for block in self.blocks], dim=1)


def block(
    reads: Reads,
    weight: float,
    part: nn.Module | Affine | int,
    *,
    projection: Affine | None = None,
    query_dimension: int | None = None,
) -> Block:
    """A block from its part: for "old" and "side" a whitening, or the dimension of what stays as it is; for "h" h.

    For "h", `projection` may follow the transformation, and `query_dimension` says that new queries have more
    coordinates than h gives, of which the first count (Matryoshka embeddings).

    Raises: SettingsError where they do not fit together.
    """
    transformation: nn.Module | None = None
    inner: TransformationArchitecture | CorrectedArchitecture | None = None
    if isinstance(part, nn.Module):
        inner = _inner_architecture(part)
        transformation, width = part, inner.new_dimension
    elif isinstance(part, Affine):
        if projection is not None:
            raise SettingsError(f"block {reads!r} has two projections; wanted one: leave projection out")
        projection, width = part, len(part.mean_D)
    else:
        width = part
    made = Block(
        BlockArchitecture(
            reads=reads,
            weight=weight,
            in_dimension=width,
            out_dimension=width if projection is None else projection.projection_DP.shape[1],
            projected=projection is not None,
            query_dimension=query_dimension,
            transformation=inner,
        ),
        transformation,
    )
    if projection is not None:
        made.load_state_dict(
            {"mean": torch.from_numpy(projection.mean_D), "projection": torch.from_numpy(projection.projection_DP)},
            strict=False,
        )
    return made.eval()


def join_blocks(
    blocks: Sequence[Block], *, old_dimension: int | None = None, side_dimension: int | None = None
) -> BlockTransformation:
    """The blocks as one transformation, in eval mode.

    The dimensions of old and side are taken from the blocks that read them; `old_dimension` must be given where none
    reads old.

    Raises: SettingsError where weights do not sum to 1, dimensions contradict each other or none says `old_dimension`.
    """
    parts = [made.architecture for made in blocks]
    inner = [part.transformation for part in parts if part.transformation is not None]
    old = {part.in_dimension for part in parts if part.reads == "old"} | {part.old_dimension for part in inner}
    side = {part.in_dimension for part in parts if part.reads == "side"} | {part.side_dimension for part in inner} - {0}
    architecture = BlocksArchitecture(
        blocks=tuple(parts),
        old_dimension=_one("old_dimension", old, old_dimension),
        side_dimension=_one("side_dimension", side or {0}, side_dimension),
        new_dimension=sum(part.out_dimension for part in parts),
    )
    return BlockTransformation(architecture, blocks).eval()


def gallery_text(transformation: nn.Module) -> str:
    """What a transformation makes a gallery's vectors of, in words: "h(old, side)", or "[old; side]" for joined blocks."""
    if isinstance(transformation, BlockTransformation):
        return f"[{'; '.join(part.reads for part in transformation.architecture.blocks)}]"
    architecture = getattr(transformation, "architecture", None)
    return "h(old, side)" if getattr(architecture, "side_dimension", 0) else "h(old)"


def _inner_architecture(module: nn.Module) -> TransformationArchitecture | CorrectedArchitecture:
    architecture = getattr(module, "architecture", None)
    if not isinstance(architecture, TransformationArchitecture | CorrectedArchitecture):
        raise SettingsError(
            f"a {type(module).__name__} cannot be in a block; wanted an mlp, linear or corrected transformation"
        )
    return architecture


def _one(name: str, seen: set[int], given: int | None) -> int:
    every = seen if given is None else seen | {given}
    if len(every) != 1:
        raise SettingsError(f"{name} of the blocks is {sorted(every) or 'not known'}; wanted one: give {name}")
    return every.pop()
