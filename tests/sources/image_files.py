"""Real image files of every kind, written by Pillow and its plugins, and the pixels that must come out of them.

The pixels are computed here from the picture that was drawn, never by decoding a file.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
ORIENTATIONS = range(1, 9)


def picture(height: int = 32, width: int = 48) -> Pixels:
    """Four patches of different colours, so that every turn and flip is another picture."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 240, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 230)
    pixels[height // 2 :, width // 2 :] = (240, 240, 240)
    return pixels


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return encoded(image, "HEIF", **options)


def stored_turned(upright: Pixels, orientation: int) -> Pixels:
    """The pixels that a camera writes for an upright picture, with this EXIF orientation.

    By the words of the EXIF standard, "the 0th row is ..., the 0th column is ...": a viewer must do the inverse.
    """
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    return np.ascontiguousarray(turned)


def with_orientation(upright: Pixels, orientation: int, image_format: str) -> bytes:
    """A file whose tag turns its pixels upright."""
    image = Image.fromarray(stored_turned(upright, orientation))
    exif = image.getexif()
    exif[0x0112] = orientation
    lossless: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100},
        "JPEG": {"quality": 95, "subsampling": 0},
    }
    if image_format == "HEIF":
        return heic(image, exif=exif.tobytes(), quality=-1)  # only of bytes does it write the turn
    if image_format == "TIFF":
        return encoded(image, "TIFF", tiffinfo={0x0112: orientation})
    return encoded(image, image_format, exif=exif, **lossless.get(image_format, {}))
