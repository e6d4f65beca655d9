"""Raw files by URI, local or `s3://...`, through fsspec: listing them, and reading the versions that were listed.

Every file has a mark that says which version was seen: the ETag on S3, modification time and size on a disk. Whoever
reads gives the mark that the listing has, and gets exactly these bytes or an error that names the file. On S3 each
request carries the mark (`If-Match`), so a file cannot change between looking and reading.

Owns: the border to fsspec. S3 endpoint and credentials come from the environment (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID ...). Knows no image and no Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

from fct_ray.errors import SourceError

_GLOB_CHARACTERS = frozenset("*[")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file as it was when it was listed."""

    path: str
    """Relative to the place that was listed, with forward slashes; empty if that is the file itself."""
    bytes: int
    mark: str
    """Which version it is: two versions have different marks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A directory, a prefix or a single file, below which files are listed and read."""

    filesystem: Any
    """An fsspec file system."""
    root: str
    """The place in the file system's words; absolute."""
    uri: str
    """The place in the user's words, without a trailing slash."""

    def uri_of(self, file: ListedFile) -> str:
        """The URI of a file, in the user's words."""
        return f"{self.uri}/{file.path}" if file.path else self.uri

    def read(self, file: ListedFile) -> bytes:
        """All bytes of a file.

        Raises:
            SourceError: it cannot be read, or was changed or deleted since it was listed; names it.
        """
        data = self._read_in_one_request(file)
        if data is None:
            with self.open(file) as opened:
                data = opened.read()
        return data

    def head(self, file: ListedFile, num_bytes: int) -> bytes:
        """The first bytes of a file, fewer where it has no more.

        Raises:
            SourceError: it cannot be read; names it.
        """
        if file.bytes == 0:  # a range of an empty object is an error on S3
            return b""
        with reading(self.uri_of(file)):
            data: bytes = self.filesystem.cat_file(self._path_of(file), start=0, end=min(num_bytes, file.bytes))
        return data

    def _read_in_one_request(self, file: ListedFile) -> bytes | None:
        """From S3: the listed version by one request; None where that fails, for then `open` tries and finds out why."""
        if not isinstance(self.filesystem, AsyncFileSystem) or "s3" not in self.filesystem.protocol:
            return None
        from aiohttp import ClientError  # s3fs has loaded it; on a disk nobody waits until it is

        bucket, key, _ = self.filesystem.split_path(self._path_of(file))
        try:
            body = self.filesystem.call_s3("get_object", Bucket=bucket, Key=key, IfMatch=file.mark)["Body"]
            data: bytes = sync(self.filesystem.loop, body.read)
        except (OSError, BotoCoreError, ClientError):
            return None
        return data if len(data) == file.bytes else None

    def _path_of(self, file: ListedFile) -> str:
        return f"{self.root}/{file.path}" if file.path else self.root

    @contextmanager
    def open(self, file: ListedFile) -> Iterator[Any]:
        """A file to read from, which ends with an error if it was not the listed version all the time.

        Raises:
            SourceError: it cannot be read, or was changed or deleted since it was listed; names it.
        """
        path, uri = self._path_of(file), self.uri_of(file)
        try:
            with self._opened(path) as opened:
                details = getattr(opened, "details", None) or {}
                is_tied = "ETag" in details  # every read of s3fs asks for this version
                _check_mark(file, uri, details if is_tied else self.filesystem.info(path))
                yield opened
            if not is_tied:
                _check_mark(file, uri, self.filesystem.info(path))
        except FileNotFoundError as error:
            raise SourceError(
                f"{uri} does not exist; it was there when the items were listed: put it back, or run again to take the "
                "items as they are now"
            ) from error
        except (OSError, BotoCoreError, ValueError) as error:
            with reading(uri):
                _check_mark(file, uri, self.filesystem.info(path))  # the version being another one is the better reason
            raise _unreadable(uri, error) from error

    def _opened(self, path: str) -> Any:
        """Local files without Python between them and Arrow, which is faster."""
        if isinstance(self.filesystem, LocalFileSystem):
            return pa.OSFile(path, "rb")
        return self.filesystem.open(path, "rb")


def open_place(uri: str, root: str | None = None, *, is_glob: bool = False) -> Place:
    """The place that a URI names: of a glob, the directory above its first part with `*` or `[...]`.

    `root` is the place in the file system's words, where a listing knows them already.

    Raises:
        SourceError: no file system knows such a URI.
    """
    with reading(uri):
        filesystem, seen_root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    cut = _above_glob if is_glob else str
    return Place(
        filesystem=filesystem, root=cut(seen_root).rstrip("/") if root is None else root, uri=cut(uri).rstrip("/")
    )


def list_files(
    uri: str, suffixes: tuple[str, ...], *, may_be_glob: bool, hidden: tuple[str, ...] = (".",)
) -> tuple[Place, list[ListedFile]]:
    """Files below a directory or prefix (recursively), or one file, or those of a glob; sorted by path.

    Only those with one of the suffixes (lower case, any case matches); files and directories whose names begin with one of
    the prefixes `hidden` are left out.

    Raises:
        SourceError: nothing is there, or it cannot be listed.
    """
    place, everything, num_hidden = list_everything(uri, may_be_glob=may_be_glob, hidden=hidden)
    files = [file for file in everything if (file.path or place.root).lower().endswith(suffixes)]
    if not files:
        raise SourceError(
            f"{uri} has no file that ends with {', '.join(suffixes)} ({len(everything) + num_hidden} other files seen); "
            "check the location, and that these credentials may list it"
        )
    return place, files


def list_everything(
    uri: str, *, may_be_glob: bool = False, hidden: tuple[str, ...] = (".",)
) -> tuple[Place, list[ListedFile], int]:
    """All files below a directory or prefix, or one file, or those of a glob, sorted by path; and how many are hidden.

    Raises:
        SourceError: it cannot be listed.
    """
    is_glob = may_be_glob and not _GLOB_CHARACTERS.isdisjoint(uri)
    place = open_place(uri, is_glob=is_glob)
    with reading(uri):
        pattern = fsspec.core.url_to_fs(uri)[1] if is_glob else place.root
        found = (place.filesystem.glob if is_glob else place.filesystem.find)(pattern, detail=True)
    paths = [path for path, info in sorted(found.items()) if info["type"] == "file"]
    seen = [path for path in paths if not _is_hidden(path, place.root, hidden)]
    files = [
        ListedFile(
            path=path.removeprefix(place.root).lstrip("/"), bytes=int(found[path]["size"]), mark=_mark(found[path])
        )
        for path in seen
    ]
    return place, files, len(paths) - len(seen)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Whatever a file system raises becomes a SourceError that names the URI."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{uri} does not exist; check the location") from error
    except (OSError, BotoCoreError, ImportError, ValueError) as error:
        raise _unreadable(uri, error) from error


def _unreadable(uri: str, error: Exception) -> SourceError:
    return SourceError(
        f"{uri} cannot be read: {type(error).__name__}: {error}; check the location and, on S3, AWS_ENDPOINT_URL, "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def _check_mark(file: ListedFile, uri: str, info: Mapping[str, Any]) -> None:
    seen = _mark(info)
    if seen != file.mark:
        raise SourceError(
            f"{uri} was changed after the items were listed: seen version {seen} ({int(info['size']):,} bytes), wanted "
            f"{file.mark} ({file.bytes:,} bytes): put that version back, or run again to take the items as they are now"
        )


def _mark(info: Mapping[str, Any]) -> str:
    """The version in the words of the file system: an ETag where it has them, else time of modification and size."""
    for name in ("ETag", "etag"):
        if info.get(name):
            return str(info[name])
    time = next((info[name] for name in ("mtime", "LastModified", "last_modified", "mtimeMs") if info.get(name)), "")
    return f"{time}-{info['size']}"


def _above_glob(text: str) -> str:
    first = min(at for at in map(text.find, _GLOB_CHARACTERS) if at >= 0)
    return text[:first].rpartition("/")[0] or "."


def _is_hidden(path: str, root: str, prefixes: tuple[str, ...]) -> bool:
    return any(part.startswith(prefixes) for part in path.removeprefix(root).split("/"))
