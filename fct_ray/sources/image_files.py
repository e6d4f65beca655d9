"""The images below a directory or prefix, local or on S3, and a count of what is none.

Owns: deciding file by file, with one small read where the suffix says nothing. What an image is says `image_formats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fct_ray.errors import SourceError
from fct_ray.sources.decoding import NUM_THREADS
from fct_ray.sources.files import ListedFile, Place, list_everything
from fct_ray.sources.image_formats import (
    HEAD_BYTES,
    HIDDEN,
    OTHER_SUFFIXES,
    SUFFIXES,
    check_decoders,
    format_of,
    left_out_text,
    suffix_of,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """What a folder has."""

    place: Place
    files: tuple[ListedFile, ...]
    """The images, sorted by path."""
    left_out: tuple[tuple[str, int], ...]
    """How many files are none, by suffix, sorted; "no suffix" and "hidden" are among them."""


def list_images(uri: str) -> ImageFiles:
    """All images below `uri`, at any depth.

    Raises:
        SourceError: no image is there, it cannot be listed, or images are there that this machine cannot decode.
    """
    place, everything, num_hidden = list_everything(uri)
    suffixes = {file: suffix_of(file.path or place.root) for file in everything}
    unknown = [file for file, suffix in suffixes.items() if suffix not in (*SUFFIXES, *OTHER_SUFFIXES)]
    found = set(_images_by_content(place, unknown))
    files = tuple(file for file, suffix in suffixes.items() if suffix in SUFFIXES or file in found)
    counts = Counter(suffix for file, suffix in suffixes.items() if suffix not in SUFFIXES and file not in found)
    counts += Counter({HIDDEN: num_hidden})
    if not files:
        seen = f"{sum(counts.values()):,} other files seen" + (f": {left_out_text(counts.items())}" if counts else "")
        raise SourceError(
            f"{uri} has no file that ends with {', '.join(SUFFIXES)}, nor one of an unknown suffix that begins as an image "
            f"({seen}); check the location, and that these credentials may list it"
        )
    check_decoders((suffixes[file] for file in files), place.uri)
    return ImageFiles(place=place, files=files, left_out=tuple(sorted(counts.items())))


def _images_by_content(place: Place, files: Sequence[ListedFile]) -> list[ListedFile]:
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        heads = threads.map(lambda file: place.head(file, HEAD_BYTES), files)
        return [file for file, head in zip(files, heads, strict=True) if format_of(head) is not None]
