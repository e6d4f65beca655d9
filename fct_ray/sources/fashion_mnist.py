"""Fashion-MNIST (Xiao et al., 2017): 70,000 grey photos of 28x28 pixels in 10 classes, MIT licence.

    fashion-mnist:fit        the first 30,000 training photos: what models are fitted on
    fashion-mnist:gallery    the other 30,000: what is indexed
    fashion-mnist:query      the 10,000 test photos: what searches

Owns: finding, fetching and reading its four files. Ids are positions in the training set; test photos add 60,000.
`python -m fct_ray.sources.fashion_mnist` fetches it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.debian import unpack_packages
from fct_ray.sources.items import Items, Keys
from fct_ray.sources.listing import IntArray, ListedSource, Listing, rows_of_one_object
from fct_ray.sources.registry import int_option, range_option

OPTIONS = ("classes", "limit")
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
SYSTEM_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
SPLITS = {"fit": (0, 30_000), "gallery": (30_000, 60_000), "query": (60_000, 70_000)}
DOWNLOAD_TIMEOUT_S = 300
_DOWNLOAD = """
import socket, sys
socket.setdefaulttimeout(10)  # without the internet this must fail fast
from torchvision.datasets import FashionMNIST
FashionMNIST(sys.argv[1], download=True)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FashionMnist:
    """Lists and reads one split, or the photos of some classes of it."""

    spec: str
    split: range
    classes: range
    limit: int
    ids_are_paths: bool = False
    content: Literal["image", "text"] = "image"

    def list_items(self) -> tuple[Listing, Keys]:
        """The photos of the split, in order. Raises SourceError if the data set cannot be fetched."""
        labels = _arrays()[1][self.split.start : self.split.stop]
        ids_N = np.flatnonzero(np.isin(labels, self.classes))[: self.limit] + self.split.start
        listing = Listing(source=ListedSource(spec=self.spec), spans=rows_of_one_object(ids_N))
        return listing, self.keys(listing)

    def keys(self, listing: Listing) -> Keys:
        """Rows are ids."""
        _, ids_N = listing.rows()
        return Keys(ids_N=ids_N, labels_N=_arrays()[1][ids_N])

    def read(self, listing: Listing) -> Items:
        """Photos uint8 [N, 28, 28, 1] with their labels."""
        keys = self.keys(listing)
        images = _arrays()[0][keys.ids_N]
        return Items(
            ids_N=keys.ids_N, columns={"image": images}, carried={"label": keys.labels_N}, bytes_read=images.nbytes
        )


def open_spec(spec: str, location: str, options: Mapping[str, str]) -> FashionMnist:
    """A split by its name; `classes=FIRST-LAST` keeps some classes, `limit=N` the first N photos."""
    if location not in SPLITS:
        raise SettingsError(f"source {spec!r}: unknown split {location!r}; want one of {', '.join(SPLITS)}")
    split = range(*SPLITS[location])
    return FashionMnist(
        spec=spec,
        split=split,
        classes=range_option(spec, options, "classes", range(10)),
        limit=int_option(spec, options, "limit", len(split)),
    )


@lru_cache(maxsize=1)
def _arrays() -> tuple[npt.NDArray[np.uint8], IntArray]:
    """All photos [70000, 28, 28, 1] and labels, training first."""
    directory = find_or_fetch()
    images = [_idx(directory / name, 16).reshape(-1, 28, 28, 1) for name in (FILES[0], FILES[2])]
    labels = [_idx(directory / name, 8) for name in (FILES[1], FILES[3])]
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def _idx(path: Path, header_bytes: int) -> npt.NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header_bytes)


def find_or_fetch() -> Path:
    """The directory that holds the four files, fetched if need be.

    Raises:
        SourceError: neither torchvision's downloader nor the Debian package could be reached.
    """
    own = data_directory() / "fashion-mnist"
    for directory in (own, SYSTEM_DIRECTORY):
        if all((directory / name).is_file() for name in FILES):
            return directory
    problems = []
    for way, fetch in (
        ("torchvision's downloader", _from_torchvision),
        ("Debian's dataset-fashion-mnist", _from_debian),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                fetched = fetch(Path(scratch))
            except SourceError as error:
                problems.append(f"{way}: {error}")
                continue
            _keep(fetched, own)
            return own
    raise SourceError(
        f"Fashion-MNIST is not in {own} and could not be fetched ({'; '.join(problems)}). Put the four files "
        f"{', '.join(FILES)} there, or set FCT_RAY_DATA"
    )


def _from_torchvision(scratch: Path) -> Path:
    """Torchvision's own downloader, in a process of its own: this room does not load torch, and can set a bound."""
    command = [sys.executable, "-c", _DOWNLOAD, str(scratch)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)  # noqa: S603 (our words)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"no answer, or too slow, within {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise SourceError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch: Path) -> Path:
    """The Debian package: on machines whose only way out is a package registry."""
    unpack_packages(["dataset-fashion-mnist"], scratch)
    return scratch / str(SYSTEM_DIRECTORY).lstrip("/")


def _keep(fetched: Path, own: Path) -> None:
    """Move the files into place one by one, each whole; another process may be doing the same."""
    own.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        partial = own / f".{name}.{os.getpid()}"
        shutil.copyfile(fetched / name, partial)
        partial.replace(own / name)


if __name__ == "__main__":
    sys.stdout.write(f"Fashion-MNIST: {find_or_fetch()}\n")
