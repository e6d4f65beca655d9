"""Image folders, local or on S3: `images:URI`, e.g. `images:s3://bucket/photos` or `images:photos?limit=1000`.

All jpg, jpeg, png, webp and bmp files below the URI, sorted by path. The id is a 63-bit hash of the path relative to
the URI, so it stays the same when images are added or the folder moves as a whole. Where there are sub-directories,
an image's label is its directory's place among all directories, sorted; the name is carried as `label_name`, the
image's location as `uri`. Sources with other directories number them differently: compare names, not labels.

Owns: ids, labels, reading. The listing is made once per process: beyond a few million images use Parquet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources.decoding import decode_all
from fct_ray.sources.files import Files, list_files
from fct_ray.sources.items import IntArray, Items
from fct_ray.sources.registry import int_option

OPTIONS = ("limit",)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images below a URI."""

    spec: str
    files: Files
    ids_N: IntArray
    labels_N: IntArray | None
    label_names: Sequence[str]
    """The name of each label; empty without labels."""

    @property
    def num_items(self) -> int:
        """How many images there are."""
        return len(self.ids_N)

    def read(self, positions_N: IntArray) -> Items:
        """Images uint8 RGB, [N, H, W, 3] or a list of [H, W, 3] where sizes differ.

        Raises:
            SourceError: an image cannot be read or decoded; the message has its URI.
        """
        paths = [self.files.paths[position] for position in positions_N]
        uris = [self.files.uri_of(path) for path in paths]
        images, bytes_read = decode_all([partial(self.files.read, path) for path in paths], uris)
        carried: dict[str, object] = {"uri": uris}
        if self.labels_N is not None:
            labels_N = self.labels_N[positions_N]
            carried |= {"label": labels_N, "label_name": [self.label_names[label] for label in labels_N]}
        return Items(ids_N=self.ids_N[positions_N], columns={"image": images}, carried=carried, bytes_read=bytes_read)


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> ImageFolder:
    """The images below `location`; `limit=N` keeps the first N, ids and labels unchanged.

    Raises:
        SettingsError: no location.
        SourceError: no image is there, it cannot be listed, or two paths have one hash.
    """
    if not location:
        raise SettingsError(f"source {spec!r} has no location; want for example images:s3://bucket/photos")
    files = list_files(location, SUFFIXES, may_be_glob=False)
    relative = [files.relative(path) for path in files.paths]
    directories = [path.rpartition("/")[0] for path in relative]
    label_names = sorted(set(directories)) if any(directories) else []
    number_of = {name: number for number, name in enumerate(label_names)}
    labels_N = np.array([number_of[name] for name in directories], np.int64) if label_names else None
    stop = int_option(spec, options, "limit", len(relative))
    ids_N = _unique_ids(relative, files.uri)[:stop]
    return ImageFolder(
        spec=spec,
        files=files,
        ids_N=_frozen(ids_N),
        labels_N=None if labels_N is None else _frozen(labels_N[:stop]),
        label_names=label_names,
    )


def path_id(relative_path: str) -> int:
    """63-bit BLAKE2b hash of a path relative to the source's URI."""
    return int.from_bytes(hashlib.blake2b(relative_path.encode(), digest_size=8).digest(), "big") >> 1


def _unique_ids(relative_paths: Sequence[str], uri: str) -> IntArray:
    path_of: dict[int, str] = {}
    for path in relative_paths:
        other = path_of.setdefault(path_id(path), path)
        if other != path:
            raise SourceError(f"{uri}: {other} and {path} have the same id {path_id(path)}; rename one of them")
    return np.fromiter(path_of, np.int64, len(path_of))


def _frozen(array_N: IntArray) -> IntArray:
    """An opened source is shared by all of its process."""
    array_N.flags.writeable = False
    return array_N
