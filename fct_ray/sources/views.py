"""Other views of a gallery's items, which its index does not hold: whoever knows one of them looks for that one item.

    parquet:DIR?text=title   what another source has for the same ids
    crop                     images: a strong crop at a random place, enlarged to the size of the image
    span:CHARS               text: what follows the first CHARS characters

Owns: the names of views, and cutting them. A cut is a value that goes to workers, which read items as they always do and
cut before they embed. Legend: N items, H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from fct_ray.errors import SettingsError
from fct_ray.sources.items import Items
from fct_ray.sources.registry import OPENERS, open_reader

CROPPED_AREA = (0.4, 0.6)
"""The share of an image that a crop keeps, from and to."""
LEAST_CHARS = 20
"""A shorter rest of a text says too little to find anything by."""
Pixels = npt.NDArray[np.uint8]


class Cut(Protocol):
    """Makes another view of items."""

    def __call__(self, items: Items) -> Items:
        """The same items, or those of them that have another view, with that view as their content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """Where the other views of a gallery's items come from."""

    spec: str
    """As their user named them."""
    source: str
    """The source that is read for them."""
    cut: Cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncut:
    """What another source has, as it is; items with an empty text are left out."""

    def __call__(self, items: Items) -> Items:
        """The items that have something."""
        return items if "text" not in items.columns else _with_texts(items, items.columns["text"], least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """A crop of 40 to 60 % of an image at a random place; the same id gives the same crop."""

    content: ClassVar[Literal["image", "text"]] = "image"

    def __call__(self, items: Items) -> Items:
        """All items, their images cropped and enlarged to the size that they had."""
        images = items.columns["image"]
        cropped = [_cropped(image_HWC, int(item)) for image_HWC, item in zip(images, items.ids_N, strict=True)]
        together = isinstance(images, np.ndarray) and len(cropped) > 0
        return replace(items, columns={**items.columns, "image": np.stack(cropped) if together else cropped})


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What follows the first characters of a text, which are what the index holds."""

    content: ClassVar[Literal["image", "text"]] = "text"
    chars: int

    def __call__(self, items: Items) -> Items:
        """The items of whose texts at least 20 characters follow."""
        return _with_texts(items, [text[self.chars :] for text in items.columns["text"]], least=LEAST_CHARS)


def _crop(spec: str, argument: str) -> Crop:
    if argument:
        raise SettingsError(f"--views {spec!r}: crop takes no {argument!r}; want crop alone")
    return Crop()


def _span(spec: str, argument: str) -> Span:
    if not argument.isdigit() or int(argument) == 0:
        raise SettingsError(
            f"--views {spec!r}: {argument!r} is no number of characters; want span:CHARS, CHARS being how many characters of "
            "a text the index holds, for example span:256"
        )
    return Span(chars=int(argument))


CUTS: Mapping[str, Callable[[str, str], Crop | Span]] = {"crop": _crop, "span": _span}
"""Name -> a cut from the whole spec and what follows the name's colon."""


def open_views(spec: str, source: str | None) -> Views:
    """The views that a spec means: cut out of the items of `source`, or of a source of their own. Lists nothing.

    Raises:
        SettingsError: an unknown name, nothing to cut from or something of another kind, or the items themselves.
    """
    name, _, argument = spec.partition("?")[0].partition(":")
    if name not in CUTS:
        if name not in OPENERS:
            raise SettingsError(
                f"--views {spec!r}: unknown name {name!r}; want crop, span:CHARS, or a source with the ids of the gallery "
                f"({', '.join(sorted(OPENERS))}), for example parquet:DIR?text=title"
            )
        if spec == source:
            raise SettingsError(
                f"--views {spec!r} is --source itself, and so what the index holds; want another view of the items: crop, "
                "span:CHARS, or a source of something else, for example parquet:DIR?text=title"
            )
        open_reader(spec)
        return Views(spec=spec, source=spec, cut=Uncut())
    cut = CUTS[name](spec, argument)
    if source is None:
        raise SettingsError(
            f"--views {spec!r} is cut out of raw items, and there is no --source; give --source, or views that have a source "
            "of their own, for example parquet:DIR?text=title"
        )
    content = open_reader(source).content
    if content != cut.content:
        raise SettingsError(
            f"--views {spec!r} is cut out of items of kind {cut.content}; --source {source} has {content}: want "
            f"{' or '.join(other for other in ('crop', 'span:CHARS') if other.partition(':')[0] != name)}"
        )
    return Views(spec=spec, source=source, cut=cut)


def _with_texts(items: Items, texts: Sequence[str], *, least: int) -> Items:
    """The items whose text has so many characters, with these texts."""
    stripped = [text.strip() for text in texts]
    long_N = np.array([len(text) >= least for text in stripped], dtype=np.bool_)
    return replace(items, columns={**items.columns, "text": stripped}).rows(long_N)


def _cropped(image_HWC: Pixels, item: int) -> Pixels:
    """The crop of one image, uint8 [H, W, C]."""
    rng = np.random.default_rng(item % 2**64)
    height, width = image_HWC.shape[:2]
    side = math.sqrt(rng.uniform(*CROPPED_AREA))
    rows, columns = max(1, round(side * height)), max(1, round(side * width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = np.moveaxis(image_HWC[top : top + rows, left : left + columns], 2, 0)
    channels = [Image.fromarray(np.ascontiguousarray(channel_HW)) for channel_HW in part]
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in channels], axis=2)
