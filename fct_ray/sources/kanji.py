"""Kanji glyphs: 2,965 characters (JIS level 1) drawn by 39 typefaces, 32x32 grey. A class is a character.

    kanji:fit        25 typefaces: what models are fitted on
    kanji:gallery    8 others: what is indexed
    kanji:query      6 others: what searches

Options: `characters=0-299` keeps some classes (first-last, both included; the order is `glyphs.jis_level_1`),
`typefaces=konatu,hanazono` some typefaces of the split, `limit=N` the first N items. Items are ordered by character,
then by typeface; the id is 10,000 x typeface + character, so ids are unique over all splits.

Owns: fetching the fonts (253 MB of Debian packages, unpacked but not installed), the rendered arrays in the data
directory (120 MB), and reading them. `python -m fct_ray.sources.kanji` does the first two, once.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.debian import unpack_packages
from fct_ray.sources.glyphs import IMAGE_SIZE, jis_level_1, render
from fct_ray.sources.items import Items, Keys
from fct_ray.sources.kanji_typefaces import PACKAGES, SPLITS, TYPEFACES, Typeface
from fct_ray.sources.listing import ListedSource, Listing, rows_of_one_object
from fct_ray.sources.registry import int_option, range_option

OPTIONS = ("characters", "typefaces", "limit")
RENDERED = "glyphs-32-v1.npy"
"""uint8 [typeface, character, 32, 32]; raise the version when rendering, typefaces or characters change."""
PRESENT = "present-32-v1.npy"
"""bool [typeface, character]: whether the typeface has that glyph."""
ID_STRIDE = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kanji:
    """Lists and reads the glyphs of one split, or of some characters and typefaces of it."""

    spec: str
    typefaces: tuple[int, ...]
    characters: range
    limit: int
    ids_are_paths: bool = False
    content: Literal["image", "text"] = "image"

    def list_items(self) -> tuple[Listing, Keys]:
        """The glyphs that the typefaces have, by character, then by typeface."""
        present = _rendered()[1]
        at = np.argwhere(present[np.ix_(self.typefaces, self.characters)].T)[: self.limit]
        labels_N = np.asarray(self.characters, np.int64)[at[:, 0]]
        ids_N = np.asarray(self.typefaces, np.int64)[at[:, 1]] * ID_STRIDE + labels_N
        listing = Listing(source=ListedSource(spec=self.spec), spans=rows_of_one_object(ids_N))
        return listing, self.keys(listing)

    def keys(self, listing: Listing) -> Keys:
        """Rows are ids."""
        _, ids_N = listing.rows()
        return Keys(ids_N=ids_N, labels_N=ids_N % ID_STRIDE)

    def read(self, listing: Listing) -> Items:
        """Glyphs uint8 [N, 32, 32, 1], with character (label) and typeface name carried."""
        _, ids_N = listing.rows()
        typefaces_N, labels_N = np.divmod(ids_N, ID_STRIDE)
        images = _rendered()[0][typefaces_N, labels_N][..., None]
        carried = {"label": labels_N, "typeface": [TYPEFACES[typeface].name for typeface in typefaces_N]}
        return Items(ids_N=ids_N, columns={"image": images}, carried=carried, bytes_read=images.nbytes)


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> Kanji:
    """A split by its name, see the module.

    Raises:
        SettingsError: unknown split or typeface, or characters outside 0-2964.
        SourceError: the glyphs were not rendered on this machine yet.
    """
    if location not in SPLITS:
        raise SettingsError(f"source {spec!r}: unknown split {location!r}; want one of {', '.join(SPLITS)}")
    present = _rendered()[1]
    characters = range_option(spec, options, "characters", range(present.shape[1]))
    if characters.stop > present.shape[1]:
        raise SettingsError(
            f"source {spec!r}: characters up to {characters.stop - 1}; want FIRST-LAST within 0-{present.shape[1] - 1}"
        )
    return Kanji(
        spec=spec,
        typefaces=tuple(_chosen_typefaces(spec, location, options.get("typefaces"))),
        characters=characters,
        limit=int_option(spec, options, "limit", present.size),
    )


def fetch(directory: Path) -> Path:
    """The rendered glyphs' directory; fonts are fetched and rendered if they are not there.

    Raises:
        SourceError: the font packages cannot be downloaded.
    """
    if not (directory / RENDERED).is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as fonts:
            logger.info("downloading and unpacking %d font packages (253 MB)", len(PACKAGES))
            try:
                unpack_packages(PACKAGES, Path(fonts))
            except SourceError as error:
                raise SourceError(
                    f"kanji fonts: {error}. On another system, unpack the Debian packages elsewhere, run this module "
                    f"there, and copy {RENDERED} and {PRESENT} to {directory}"
                ) from error
            render_typefaces(Path(fonts), TYPEFACES, directory)
    return directory


def render_typefaces(fonts: Path, typefaces: tuple[Typeface, ...], directory: Path) -> None:
    """Render all characters in these typefaces, found by file name below `fonts`, and keep both arrays, each whole.

    Raises:
        SourceError: a font file is missing or unreadable.
    """
    files = [_font_file(fonts, typeface) for typeface in typefaces]
    characters = jis_level_1()
    glyphs = np.zeros((len(typefaces), len(characters), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        faces = [typeface.face for typeface in typefaces]
        rendered = pool.map(render, files, faces, [characters] * len(files))
        for index, images in enumerate(tqdm(rendered, "rendering typefaces", len(files), disable=None)):
            glyphs[index] = images
    _keep(directory / PRESENT, np.asarray(glyphs.any(axis=(2, 3))))
    _keep(directory / RENDERED, glyphs)


def _chosen_typefaces(spec: str, split: str, text: str | None) -> list[int]:
    known = {typeface.name: index for index, typeface in enumerate(TYPEFACES) if typeface.split == split}
    names = list(known) if text is None else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(f"source {spec!r}: no typeface {unknown[0]!r} in {split}; want some of {', '.join(known)}")
    return sorted({known[name] for name in names})


@lru_cache(maxsize=1)
def _rendered() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """All glyphs, mapped into memory and read where they are used, and which of them exist."""
    directory = data_directory() / "kanji"
    if not (directory / RENDERED).is_file():
        raise SourceError(
            f"no {RENDERED} in {directory}; run `python -m fct_ray.sources.kanji` once (downloads 253 MB of Debian "
            "font packages, renders for a minute), or set FCT_RAY_DATA to where it was run"
        )
    return np.load(directory / RENDERED, mmap_mode="r"), np.load(directory / PRESENT)


def _font_file(fonts: Path, typeface: Typeface) -> Path:
    found = sorted(fonts.rglob(typeface.file))
    if not found:
        raise SourceError(
            f"{typeface.file} of {typeface.package} is not below {fonts}; the package of this release lacks it: use "
            "Debian 12 or later, or copy the rendered arrays from a machine that has"
        )
    return found[0]


def _keep(path: Path, array: npt.NDArray[Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(f"kanji glyphs: {fetch(data_directory() / 'kanji')}\n")
