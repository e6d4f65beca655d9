"""Ways of upgrading that join or whiten what the store has, with or without a fitted map: all in closed form.

    whitened         old, centred and whitened                                    old queries
    fused            [old; side]                                                  old and side queries
    fused_whitened   the same, each whitened                                      old and side queries
    shared_space     old as it is, or the coordinates that both models share      new queries
    procrustes       old, rotated                                                 new queries
    fused_linear     [linear map; old; side], the stored ones whitened            new, old and side queries
    fused_corrected  the same with the linear map, corrected by the pairs that are near
    fused_fct        the same with the network h

Owns: which of them a gallery allows, and the weights that are tried. What each does to a vector is models/blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from fct_ray.errors import FitError
from fct_ray.kinds import Method, WayChoice
from fct_ray.models.blocks import Block, BlockTransformation, block, join_blocks
from fct_ray.models.closed_forms import identity, procrustes
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.transformation import AnyTransformation
from fct_ray.models.whitening import Affine, Moments, whitening
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.stored_sample import FloatArray, StoredRows

OLD_SHARES = (0.3, 0.5, 0.7)
"""How much old weighs among the stored blocks; the rest is side."""
H_SHARES = (0.25, 0.5, 0.7)
"""How much h weighs beside the stored blocks."""
OLD_EXPONENT, SIDE_EXPONENTS = 0.5, (0.5, 1.0)
"""How far blocks are whitened: half for vectors of supervised and of text models, fully for contrastive ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeWay:
    """A way that is not saved yet."""

    method: Method
    variant: str
    module: AnyTransformation
    needs_new: bool
    """Whether its queries need the new encoder."""


def nothing_fitted(stored: Iterable[StoredBlocks], old_dimension: int) -> Iterator[MadeWay]:
    """Whitened and fused stored vectors."""
    for blocks in stored:
        module = join_blocks(blocks.at(1.0), old_dimension=old_dimension)
        yield MadeWay(method=blocks.method, variant=blocks.variant, module=module, needs_new=False)


def compatible(pairs: Pairs, *, normalized: bool) -> Iterator[MadeWay]:
    """For models that share a space, or whose spaces differ by a rotation: nothing, or a rotation, fitted on pairs."""
    old, new = pairs.old_PD.shape[1], pairs.new_PW.shape[1]
    rotation = procrustes(pairs.old_PD, pairs.new_PW, normalized=normalized)
    yield MadeWay(method=Method.PROCRUSTES, variant="", module=rotation, needs_new=True)
    if new <= old:
        module: AnyTransformation = identity(old, new, normalized=normalized)
    else:
        module = join_blocks(
            [block("h", 1.0, identity(old, old, normalized=True), query_dimension=new)], old_dimension=old
        )
    yield MadeWay(method=Method.SHARED_SPACE, variant=f"{min(old, new)} coordinates", module=module, needs_new=True)


def joined_with(
    fitted: Mapping[Method, LoadedModel], stored: Iterable[StoredBlocks], old_dimension: int
) -> Iterator[MadeWay]:
    """Fitted maps beside the stored blocks, as they are and whitened, for every share of theirs."""
    beside = [blocks for blocks in stored if blocks.is_middle]
    joined = {
        Method.FUSED_LINEAR: fitted.get(Method.LINEAR_SIDE, fitted.get(Method.LINEAR_NOSIDE)),
        Method.FUSED_CORRECTED: fitted.get(Method.CORRECTED),
        Method.FUSED_FCT: fitted.get(Method.FCT_SIDE, fitted.get(Method.FCT_NOSIDE)),
    }
    for (method, h), blocks, share in product(joined.items(), beside, H_SHARES):
        if h is None:
            continue
        made = [block("h", share, h.transformation()), *blocks.at(1 - share)]
        module = join_blocks(made, old_dimension=old_dimension)
        variant = f"{share:g} h + {1 - share:g} ({blocks.variant or 'old whitened'})"
        yield MadeWay(method=method, variant=variant, module=module, needs_new=True)


def wanted(choice: WayChoice, way: MadeWay) -> bool:
    """Whether the user's choice of ways includes this one."""
    if choice is WayChoice.AUTO:
        return True
    if choice is WayChoice.NOTHING_FITTED:
        return not way.needs_new
    return isinstance(way.module, BlockTransformation) == (choice is WayChoice.FUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBlocks:
    """Stored vectors as blocks, whose weights are shares of what is left for them."""

    method: Method
    parts: tuple[tuple[str, float, Affine | int], ...]
    variant: str
    is_middle: bool = False
    """Whether a fitted map is tried beside it."""

    def at(self, weight: float) -> list[Block]:
        """Blocks that weigh `weight` together."""
        return [block("side" if reads == "side" else "old", weight * share, part) for reads, share, part in self.parts]


def stored_blocks(gallery: StoredRows) -> Iterator[StoredBlocks]:
    """The stored vectors as blocks, whitened by the gallery's own moments; what does not vary is left out."""
    old = _whitened(gallery.old_GD, OLD_EXPONENT)
    if old is not None:
        alone = gallery.side_GS is None
        yield StoredBlocks(method=Method.WHITENED, parts=(("old", 1.0, old),), variant="", is_middle=alone)
    if gallery.side_GS is None:
        return
    dimensions = gallery.old_GD.shape[1], gallery.side_GS.shape[1]
    yield StoredBlocks(
        method=Method.FUSED,
        parts=(("old", 0.5, dimensions[0]), ("side", 0.5, dimensions[1])),
        variant="0.5 old + 0.5 side, raw",
        is_middle=True,
    )
    for exponent in SIDE_EXPONENTS:
        side = _whitened(gallery.side_GS, exponent)
        if old is None or side is None:
            continue
        for share in OLD_SHARES:
            yield StoredBlocks(
                method=Method.FUSED_WHITENED,
                parts=(("old", share, old), ("side", 1 - share, side)),
                variant=f"{share:g} old + {1 - share:g} side^{exponent:g}",
                is_middle=share == OLD_SHARES[1],
            )


def _whitened(rows_GD: FloatArray, exponent: float) -> Affine | None:
    try:
        return whitening(Moments.of(rows_GD), exponent=exponent)
    except FitError:  # no direction varies: nothing to whiten
        return None
