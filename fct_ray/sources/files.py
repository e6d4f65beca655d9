"""Raw files by URI, local or `s3://...`, through fsspec: listing and reading, with errors of our tree.

Owns: the border to fsspec. S3 endpoint and credentials come from the environment (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID ...). Knows no image and no Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from fct_ray.errors import SourceError

_GLOB_CHARACTERS = frozenset("*[")


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Some files of one file system, in sorted order."""

    filesystem: Any
    """An fsspec file system."""
    root: str
    """What was listed, in the file system's own words."""
    uri: str
    """What was listed, in the user's words, without a trailing slash."""
    paths: tuple[str, ...]

    def relative(self, path: str) -> str:
        """A path as seen from the root, with forward slashes."""
        return path.removeprefix(self.root).lstrip("/")

    def uri_of(self, path: str) -> str:
        """The URI of a path: in the words of the listed URI where it lies below that."""
        if path == self.root:
            return self.uri
        if path.startswith(self.root + "/"):
            return f"{self.uri}/{self.relative(path)}"
        return str(self.filesystem.unstrip_protocol(path))

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises SourceError, naming it."""
        with reading(self.uri_of(path)):
            data: bytes = self.filesystem.cat_file(path)
            return data


def list_files(uri: str, suffixes: tuple[str, ...], *, may_be_glob: bool) -> Files:
    """Files below a directory or prefix (recursively), or one file, or those of a glob with `*` or `[...]`.

    Only those with one of the suffixes (lower case, any case matches); hidden ones are left out.

    Raises:
        SourceError: nothing is there, or it cannot be listed.
    """
    with reading(uri):
        filesystem, root = fsspec.core.url_to_fs(uri)
        filesystem.invalidate_cache()
        is_glob = may_be_glob and not _GLOB_CHARACTERS.isdisjoint(uri)
        found = filesystem.glob(root) if is_glob else filesystem.find(root)
    root = root.rstrip("/")
    paths = tuple(sorted(path for path in found if path.lower().endswith(suffixes) and not _hidden(path, root)))
    if not paths:
        raise SourceError(
            f"{uri} has no file that ends with {', '.join(suffixes)} ({len(found)} other files seen); "
            "check the location, and that these credentials may list it"
        )
    return Files(filesystem=filesystem, root=root, uri=uri.rstrip("/"), paths=paths)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Whatever a file system raises becomes a SourceError that names the URI."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{uri} does not exist; check the location") from error
    except (OSError, BotoCoreError, ImportError, ValueError) as error:
        raise SourceError(
            f"{uri} cannot be read: {type(error).__name__}: {error}; check the location and, for S3, AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(".") for part in path.removeprefix(root).split("/"))
