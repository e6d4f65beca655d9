"""Characters as small grey images: which characters there are, and how a typeface draws them.

Owns: the list of characters, rendering with Pillow, and telling a glyph from the box that stands for a missing one.
Knows no data set and no directory but the font file that it is given. Legend: C characters, S side in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFont

from fct_ray.errors import SourceError

IMAGE_SIZE = 32
_FONT_SIZE = 28
_LARGEST = IMAGE_SIZE - 2
"""Ink leaves a margin of one pixel; larger glyphs are scaled down to fit."""
_FIRST_ROW, _LAST_ROW, _LAST_ROW_CELLS, _ROW_CELLS = 16, 47, 51, 94


def jis_level_1() -> tuple[str, ...]:
    """The 2,965 kanji of JIS X 0208 level 1, in a fixed order that has nothing to do with their shapes.

    The standard orders them by reading, and characters that share a phonetic part share their reading: a range of
    that order would be a family, not a sample. So they are ordered by the SHA-256 of the character.
    """
    characters = [
        bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp")
        for row in range(_FIRST_ROW, _LAST_ROW + 1)
        for cell in range(1, (_LAST_ROW_CELLS if row == _LAST_ROW else _ROW_CELLS) + 1)
    ]
    return tuple(sorted(characters, key=lambda character: hashlib.sha256(character.encode()).digest()))


def render(font_file: Path, face: int, characters: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Characters as a typeface draws them, ink 255 on 0: uint8 [C, 32, 32]; blank where it has no glyph.

    What lies between the top of the ink and the baseline is put in the middle, so kanji are centred within 1-3 pixels.
    A character map entry is no proof of a glyph. What a typeface lacks it draws as one and the same box: an image
    that two characters share is therefore a glyph of neither.

    Raises:
        SourceError: the file is not a font that FreeType can open.
    """
    try:
        font = ImageFont.truetype(font_file, _FONT_SIZE, index=face, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise SourceError(f"{font_file} face {face} is not a readable font ({error}); fetch it again") from error
    images_CSS = np.stack([_glyph(font, character) for character in characters])
    _, first_of_C, counts = np.unique(
        images_CSS.reshape(len(characters), -1), axis=0, return_inverse=True, return_counts=True
    )
    images_CSS[counts[first_of_C.reshape(-1)] > 1] = 0
    return images_CSS


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> npt.NDArray[np.uint8]:
    canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    mask = font.getmask(character, mode="L")
    width, height = mask.size
    if not (width and height):
        return canvas
    ink = Image.frombytes("L", (width, height), bytes(mask))
    if max(width, height) > _LARGEST:
        scale = _LARGEST / max(width, height)
        ink = ink.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    top, left = (IMAGE_SIZE - ink.height) // 2, (IMAGE_SIZE - ink.width) // 2
    canvas[top : top + ink.height, left : left + ink.width] = np.asarray(ink)
    return canvas
