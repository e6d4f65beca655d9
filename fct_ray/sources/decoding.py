"""Encoded images (JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC) to pixels, in threads: Pillow decodes outside the lock.

Owns: what "an image" means for every source of photos: RGB, 8 bits, upright (EXIF orientation applied), transparent
pixels on white, of several frames or pages the first. Colour profiles are not applied. Legend: N images, H height, W width.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fct_ray.errors import SourceError
from fct_ray.sources.image_formats import HEAD_BYTES, format_of, missing_decoder

NUM_THREADS = 16
"""More than cores: with S3 the threads wait for bytes most of the time."""
MOST_PIXELS = 178_956_970
"""The most of one image, 512 MiB of pixels, which is where Pillow refuses too: a small file can say it has any number."""
_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")
_PROGRAMS = ("EPS", "WMF")
"""Formats that another program would have to be started for."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow and its plugins raise for damaged bytes; they have no error of their own."""


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
    """One image as uint8 [H, W, 3]. Its content decides the format, not its name.

    16-bit grey is scaled to 8 bits. 16 bits of other kinds lose their lower half, as Pillow has it.

    Raises:
        SourceError: empty, not an image, damaged, too large, or deeper than 8 bits with a range that is not known; the
            message has its name.
    """
    advice = "replace the image or leave it out of the source"
    if not data:
        raise SourceError(f"{name} has 0 bytes; want an image: {advice}")
    missing = missing_decoder(kind := format_of(data[:HEAD_BYTES]))
    if missing is not None:
        raise SourceError(f"{name} cannot be decoded: {missing}")
    if kind == "HEIC":
        _know_heic()
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_kind(image, name)
            return _pixels(image)
    except UnidentifiedImageError as error:
        raise SourceError(
            f"{name} ({len(data)} bytes) cannot be decoded: it is no image that is known; {advice}"
        ) from error
    except _DAMAGE as error:
        raise SourceError(f"{name} ({len(data)} bytes) cannot be decoded: {error}; {advice}") from error


@functools.cache
def _know_heic() -> None:
    """Pillow learns the format from a package of its own."""
    from pillow_heif import register_heif_opener

    register_heif_opener()


def _check_kind(image: Image.Image, name: str) -> None:
    if image.format in _PROGRAMS:
        raise SourceError(f"{name} is {image.format}, a drawing and not pixels; convert it to PNG first")
    if image.width * image.height > MOST_PIXELS:
        raise SourceError(
            f"{name} says that it has {image.width:,} x {image.height:,} pixels; want at most {MOST_PIXELS:,} in all: make "
            "it smaller, or leave it out of the source"
        )
    if image.mode in _DEEP_MODES and _bits(image) is None:
        raise SourceError(
            f"{name} has pixels of mode {image.mode} in {image.format}, whose range is not known; wanted 8 bits per channel, "
            "or 16-bit grey in PNG or TIFF: convert it first"
        )


def _pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode in _DEEP_MODES:
        bits = _bits(image)
        assert bits is not None  # noqa: S101 (checked before)
        inverted = image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
        clear = image.info.get("transparency")
        upright = ImageOps.exif_transpose(image)
        return _from_deep_grey(np.asarray(upright), bits, inverted=inverted, clear=clear)
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        coloured = upright.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return np.array(Image.alpha_composite(white, coloured).convert("RGB"))
    return np.array(upright.convert("RGB"))


def _from_deep_grey(values_HW: npt.NDArray[Any], bits: int, *, inverted: bool, clear: object) -> npt.NDArray[np.uint8]:
    """RGB [H, W, 3] of grey numbers from 0 to 2^bits - 1, rounded; white where they have the number `clear`."""
    most = 2**bits - 1
    grey_HW = (np.clip(values_HW.astype(np.int64), 0, most) * 255 + most // 2) // most
    if inverted:
        grey_HW = 255 - grey_HW
    if isinstance(clear, int):
        grey_HW[values_HW == clear] = 255
    return np.repeat(grey_HW.astype(np.uint8)[:, :, None], 3, axis=2)


def _bits(image: Image.Image) -> int | None:
    """How many bits the numbers of a deep grey image have; None where their range is not known."""
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        bits = _tag(image, _BITS_PER_SAMPLE)
        return int(bits[0] if isinstance(bits, tuple) else bits)
    known = {"PNG": ("I", "I;16", "I;16B"), "PPM": ("I",)}  # older releases of Pillow open 16-bit PNG as I
    return 16 if image.mode in known.get(image.format or "", ()) else None


def _tag(image: Any, number: int) -> Any:
    return image.tag_v2.get(number)
