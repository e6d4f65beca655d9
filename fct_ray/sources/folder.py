"""Image folders, local or on S3: `images:URI`, e.g. `images:s3://bucket/photos` or `images:photos?limit=1000`.

All images below the URI, sorted by path: JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC and AVIF, see `image_formats`; other files are
counted by suffix. The id is a 63-bit hash of the path relative to
the URI, so it stays the same when images are added or the folder moves as a whole. Where there are sub-directories,
an image's label is its directory's place among all directories, sorted; the name is carried as `label_name`, the
image's location as `uri`. Sources with other directories number them differently: compare names, not labels. With
`?id=path` items are called by that path itself: a store that is made of them has the paths as keys.

Owns: ids, labels, reading. Every photo takes about a hundred bytes of memory on the driver: beyond some tens of millions use
Parquet.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa

from fct_ray.errors import SettingsError, SourceError
from fct_ray.key_types import KEY_TYPES, UserIds
from fct_ray.kinds import KeyType
from fct_ray.sources.decoding import decode_all
from fct_ray.sources.files import ListedFile, open_place
from fct_ray.sources.image_files import list_images
from fct_ray.sources.image_formats import left_out_text
from fct_ray.sources.items import Items, Keys
from fct_ray.sources.listing import IntArray, ListedSource, Listing, whole_objects
from fct_ray.sources.registry import int_option

OPTIONS = ("limit", "id")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder:
    """Lists and reads the images below a URI."""

    spec: str
    location: str
    limit: int | None
    by_path: bool = False
    """Whether items are called by their paths, and not by a hash of these."""
    ids_are_paths: bool = True
    content: Literal["image", "text"] = "image"

    def list_items(self) -> tuple[Listing, Keys]:
        """The images that are there now, sorted by path.

        Raises:
            SourceError: no image is there, it cannot be listed, or two paths have one hash; or images are there that this
                machine cannot decode.
        """
        found = list_images(self.location)
        place, files = found.place, found.files
        if found.left_out:
            logger.warning("%s: %s", self.spec, left_out_text(found.left_out))
        paths = [file.path for file in files]
        directories = {_directory(path) for path in paths}
        names = tuple(sorted(directories)) if directories != {""} else None
        ids_N = _unique_ids(paths, place.uri)
        kept = files[: self.limit]
        listing = Listing(
            source=ListedSource(
                spec=self.spec, uri=place.uri, root=place.root, label_names=names, left_out=found.left_out
            ),
            spans=whole_objects(
                [file.path for file in kept],
                [file.bytes for file in kept],
                [file.mark for file in kept],
                [1] * len(kept),
            ),
        )
        kept_paths = paths[: self.limit]
        labels_N = _labels(kept_paths, names)
        return listing, Keys(ids_N=ids_N[: self.limit], labels_N=labels_N, keys=self._keys(kept_paths))

    def keys(self, listing: Listing) -> Keys:
        """Ids and labels, which follow from the paths."""
        paths = listing.spans["path"].to_pylist()
        ids_N = np.fromiter(map(path_id, paths), np.int64, len(paths))
        return Keys(ids_N=ids_N, labels_N=_labels(paths, listing.source.label_names), keys=self._keys(paths))

    def _keys(self, paths: Sequence[str]) -> UserIds | None:
        return pa.array(paths, KEY_TYPES[KeyType.STRING]) if self.by_path else None

    def read(self, listing: Listing) -> Items:
        """Images uint8 RGB, [N, H, W, 3] or a list of [H, W, 3] where sizes differ.

        Raises:
            SourceError: an image cannot be read or decoded, or was changed since it was listed; the message has its URI.
        """
        source, spans = listing.source, listing.spans
        place = open_place(source.uri, source.root)
        files = [
            ListedFile(path=path, bytes=size, mark=mark)
            for path, size, mark in zip(*(spans[name].to_pylist() for name in ("path", "bytes", "mark")), strict=True)
        ]
        uris = [place.uri_of(file) for file in files]
        images, bytes_read = decode_all([partial(place.read, file) for file in files], uris)
        keys, carried = self.keys(listing), dict[str, object](uri=uris)
        if keys.labels_N is not None and source.label_names is not None:
            carried |= {"label": keys.labels_N, "label_name": [source.label_names[label] for label in keys.labels_N]}
        return Items(
            ids_N=keys.ids_N, columns={"image": images}, carried=carried, bytes_read=bytes_read, keys=keys.keys
        )


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> ImageFolder:
    """The images below `location`; `limit=N` keeps the first N, ids and labels unchanged; `id=path` calls them by path.

    Raises:
        SettingsError: no location, or another id.
    """
    if not location:
        raise SettingsError(f"source {spec!r} has no location; want for example images:s3://bucket/photos")
    by_path = "id" in options
    if by_path and options["id"] != "path":
        raise SettingsError(f"source {spec!r}: option id is {options['id']!r}; want path, or leave it out")
    return ImageFolder(spec=spec, location=location, limit=int_option(spec, options, "limit", None), by_path=by_path)


def path_id(relative_path: str) -> int:
    """63-bit BLAKE2b hash of a path relative to the URI of the source."""
    return int.from_bytes(hashlib.blake2b(relative_path.encode(), digest_size=8).digest(), "big") >> 1


def _unique_ids(relative_paths: Sequence[str], uri: str) -> IntArray:
    path_of: dict[int, str] = {}
    for path in relative_paths:
        other = path_of.setdefault(path_id(path), path)
        if other != path:
            raise SourceError(f"{uri}: {other} and {path} have the same id {path_id(path)}; rename one of them")
    return np.fromiter(path_of, np.int64, len(path_of))


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _labels(paths: Sequence[str], names: Sequence[str] | None) -> IntArray | None:
    if names is None:
        return None
    number_of = {name: number for number, name in enumerate(names)}
    return np.fromiter((number_of[_directory(path)] for path in paths), np.int64, len(paths))
