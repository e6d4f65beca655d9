"""Encoded images (JPEG, PNG, WebP, BMP) to pixels, in threads; Pillow decodes outside the interpreter lock.

Owns: what "an image" means for every source of photos: RGB, 8 bits, upright (EXIF orientation applied), transparent
pixels on white. Legend: N images, H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fct_ray.errors import SourceError

NUM_THREADS = 16
"""More than cores: with S3 the threads wait for bytes most of the time."""
_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L")


def decode_all(
    readers: Sequence[Callable[[], bytes]], names: Sequence[str]
) -> tuple[npt.NDArray[np.uint8] | list[npt.NDArray[np.uint8]], int]:
    """Images uint8 [N, H, W, 3], or a list of [H, W, 3] where sizes differ; and how many encoded bytes were read.

    Raises:
        SourceError: an image cannot be read or decoded; the message has its name.
    """

    def one(reader: Callable[[], bytes], name: str) -> tuple[npt.NDArray[np.uint8], int]:
        data = reader()
        return decode(data, name), len(data)

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        decoded = list(threads.map(one, readers, names))
    images = [image for image, _ in decoded]
    num_bytes = sum(size for _, size in decoded)
    if images and len({image.shape for image in images}) == 1:
        return np.stack(images), num_bytes
    return images, num_bytes


def decode(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """One image as uint8 [H, W, 3].

    Raises:
        SourceError: not an image, damaged, or deeper than 8 bits (its range is not known); the message has its name.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in _DEEP_MODES:
                raise SourceError(
                    f"{name} has pixels of mode {image.mode}; wanted 8 bits per channel: convert it first"
                )
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                coloured = upright.convert("RGBA")
                white = Image.new("RGBA", coloured.size, "white")
                return np.array(Image.alpha_composite(white, coloured).convert("RGB"))
            return np.array(upright.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(
            f"{name} ({len(data)} bytes) cannot be decoded: {error}; replace the image or leave it out of the source"
        ) from error
