"""Bytes at a URI: a local path (`/data/x`, `file:///data/x`) or `s3://bucket/key`.

Owns: what every caller may rely on wherever the bytes lie: writes are atomic, creation and replacement can be made
conditional, listings are sorted and complete, errors name the object. Knows nothing of stores. Every function works
in any process and thread; S3 endpoint and credentials come only from the environment (`AWS_*`). Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs

from fct_ray.errors import FormatError, NotFoundError, PublishConflictError, SettingsError, StoreError
from fct_ray.storage import arrow_objects, local_objects, s3_objects, s3_requests
from fct_ray.storage.documents import sha256_hex

_LOOKUPS_AT_ONCE = 16


def absolute(uri: str) -> str:
    """`uri` without trailing slash, local paths absolute: the same object from any working directory.

    Raises:
        SettingsError: empty, or of a scheme other than `s3://` and `file://`.
    """
    if not uri:
        raise SettingsError("an empty path: wanted a local path or s3://BUCKET/PREFIX")
    if uri.startswith("s3://"):
        bucket, _ = s3_requests.split(uri)
        if "@" in bucket or ":" in bucket:
            raise SettingsError("an s3:// URI with credentials in it; give them in the environment (AWS_*)")
        return uri.rstrip("/")
    if uri.startswith("file://"):
        return str(Path(unquote(urlsplit(uri).path)))
    scheme, separator, _ = uri.partition("://")
    if separator:
        raise SettingsError(f"a {scheme}:// URI is not supported: wanted a local path or s3://BUCKET/PREFIX")
    return str(Path(uri).absolute())


def join(root_uri: str, path: str) -> str:
    """The URI of `path` below `root_uri`; an absolute URI (`s3://...`, `file://...`) passes through.

    Raises:
        FormatError: `path` is empty, an absolute local path, or climbs out with `..`.
    """
    if "://" in path:
        return path
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise FormatError(
            f"path {path!r} below {root_uri}: wanted a path relative to it without '..', or an absolute URI "
            "(s3://... or file:///...)"
        )
    return f"{root_uri.rstrip('/')}/{path}"


def read_bytes(uri: str) -> bytes:
    """The content of an object; passing faults are retried within the bounds that `s3_requests` states.

    Raises:
        NotFoundError: there is no such object.
        StoreError: it cannot be read (refused, unreachable); names the object and what to check.
    """
    if is_s3(uri):
        return s3_objects.get(uri).data
    with _local_errors("read", uri):
        return _path(uri).read_bytes()


def read_range(uri: str, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of an object, and no others are read. Raises like `read_bytes`; StoreError: it ends before."""
    if is_s3(uri):
        return s3_objects.get(uri, (start, stop)).data if stop > start else b""
    with _local_errors("read", uri), _path(uri).open("rb") as file:
        file.seek(start)
        data = file.read(stop - start)
    if len(data) != stop - start:
        raise StoreError(
            f"{uri}: ends after {start + len(data):,} bytes; want {stop:,}: was it replaced by a shorter one?"
        )
    return data


def write_bytes(uri: str, data: bytes) -> tuple[int, str]:
    """Write an object, whole or not at all, and return what an `ObjectRef` needs: (bytes, sha256).

    Local: temporary file, fsync, rename. S3: one put, or a multipart upload. An existing object is replaced.

    Raises:
        StoreError: it cannot be written.
    """
    if is_s3(uri):
        s3_objects.put(uri, data)
    else:
        with _local_errors("write", uri):
            local_objects.write(_path(uri), data)
    return len(data), sha256_hex(data)


def create(uri: str, data: bytes) -> bool:
    """Write an object only if there is none; False if there is one. Of concurrent creators one gets True.

    Raises:
        StoreError: it cannot be written.
    """
    if is_s3(uri):
        return s3_objects.put_if(uri, data, replaces=None)
    with _local_errors("create", uri):
        return local_objects.create(_path(uri), data)


def compare_and_swap(uri: str, *, expected: bytes | None, new: bytes) -> None:
    """Replace an object's content by `new` if it is `expected` (None: absent). Of concurrent callers one wins.

    Raises:
        PublishConflictError: the content is another one; nothing was written.
        StoreError: it cannot be read or written.
    """
    if is_s3(uri):
        seen, swapped = _swap_on_s3(uri, expected, new)
    else:
        with _local_errors("replace", uri):
            seen = local_objects.compare_and_swap(_path(uri), expected=expected, new=new)
            swapped = seen == expected
    if not swapped:
        raise PublishConflictError(
            f"{uri} was changed by somebody else: seen {_excerpt(seen)}, wanted {_excerpt(expected)}. Nothing was "
            "overwritten; look at what was published, then run again"
        )


def list_uris(prefix_uri: str) -> list[str]:
    """Sorted URIs of all objects below the directory `prefix_uri`, at any depth; empty if there are none.

    Names that begin with a dot (temporary and lock files) are left out, unless they lie above the directory.
    """
    if not is_s3(prefix_uri):
        with _local_errors("list", prefix_uri):
            return sorted(str(path) for path in local_objects.files(_path(prefix_uri)))
    directory = f"{prefix_uri.rstrip('/')}/"
    return [uri for uri in list_all_uris(prefix_uri) if "/." not in f"/{uri.removeprefix(directory)}"]


def list_all_uris(prefix_uri: str) -> list[str]:
    """`list_uris`, and those whose names begin with a dot."""
    if not is_s3(prefix_uri):
        with _local_errors("list", prefix_uri):
            return sorted(str(path) for path in local_objects.all_files(_path(prefix_uri)))
    bucket, _ = s3_requests.split(prefix_uri)
    # A key that ends with a slash is how consoles mark an empty directory.
    return sorted(f"s3://{bucket}/{key}" for key in _keys_below(prefix_uri) if not key.endswith("/"))


def list_names(prefix_uri: str) -> list[str]:
    """Sorted names of what lies directly in the directory `prefix_uri`, objects and directories alike.

    Names that begin with a dot are left out.
    """
    if not is_s3(prefix_uri):
        with _local_errors("list", prefix_uri):
            return sorted(local_objects.children(_path(prefix_uri)))
    directory, names = f"{prefix_uri.rstrip('/')}/", set[str]()
    _, prefix = s3_requests.split(directory)
    for keys, prefixes in s3_objects.pages(directory, delimiter="/"):
        names.update(key.removeprefix(prefix).rstrip("/") for key in [*keys, *prefixes])
    return sorted(name for name in names if name and not name.startswith("."))


def exists(uri: str) -> bool:
    """Whether there is an object (not: a directory) at `uri`."""
    if is_s3(uri):
        return s3_objects.size_bytes(uri) is not None
    with _local_errors("look up", uri):
        return _path(uri).is_file()


def size_bytes(uri: str) -> int:
    """Size of an object. Raises NotFoundError if there is none."""
    if not is_s3(uri):
        with _local_errors("look up", uri):
            return _path(uri).stat().st_size
    size = s3_objects.size_bytes(uri)
    if size is None:
        raise NotFoundError(f"{uri}: there is no such object")
    return size


def sizes(uris: Sequence[str]) -> list[int]:
    """The size of each object in bytes, in order. Raises NotFoundError."""
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as threads:
        return list(threads.map(size_bytes, uris))


def marks(uris: Sequence[str]) -> list[str]:
    """A mark of each object's present content, in order: the ETag on S3, size and time of change on a disk.

    An object that is written again gets another mark. Nothing is read.

    Raises:
        NotFoundError: one of the objects is not there.
    """
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as threads:
        return list(threads.map(_mark, uris))


def _mark(uri: str) -> str:
    if is_s3(uri):
        return s3_objects.etag(uri)
    with _local_errors("look up", uri):
        seen = _path(uri).stat()
    return f"{seen.st_size}-{seen.st_mtime_ns}"


def delete_tree(uri: str) -> None:
    """Delete the object at `uri` and everything below it; nothing happens if there is nothing.

    Raises:
        SettingsError: `uri` is a whole bucket or file system.
    """
    if uri.rstrip("/").count("/") < (3 if is_s3(uri) else 1):
        raise SettingsError(f"{uri}: refusing to delete a whole bucket or file system; name a directory in it")
    if not is_s3(uri):
        with _local_errors("delete", uri):
            local_objects.delete_tree(_path(uri))
        return
    keys = [*_keys_below(uri), *([s3_requests.split(uri)[1]] if exists(uri) else [])]
    s3_objects.delete(uri, keys)


def delete(uris: Sequence[str]) -> None:
    """Delete objects; those that are not there are no error. Raises StoreError."""
    buckets: dict[str, list[str]] = {}
    for uri in uris:
        if is_s3(uri):
            bucket, key = s3_requests.split(uri)
            buckets.setdefault(bucket, []).append(key)
        else:
            with _local_errors("delete", uri):
                _path(uri).unlink(missing_ok=True)
    for bucket, keys in buckets.items():
        s3_objects.delete(f"s3://{bucket}", keys)


def list_litter(prefix_uri: str) -> list[str]:
    """Sorted URIs of unfinished writes below a directory: temporary files, and on S3 the keys of unfinished uploads.

    Some belong to writers that are at work, the others to writers that were killed.
    """
    if is_s3(prefix_uri):
        uploads = s3_objects.uploads(f"{prefix_uri.rstrip('/')}/")
        return sorted({f"s3://{upload['Bucket']}/{upload['Key']}" for upload in uploads})
    with _local_errors("list", prefix_uri):
        return sorted(str(path) for path in local_objects.litter(_path(prefix_uri)))


def delete_litter(prefix_uri: str) -> None:
    """Delete what `list_litter` lists. Nobody may be writing there. Raises StoreError."""
    if is_s3(prefix_uri):
        s3_objects.abort_uploads(f"{prefix_uri.rstrip('/')}/")
        return
    delete(list_litter(prefix_uri))


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """(file system, path) for libraries that speak pyarrow, e.g. Ray Train's `storage_filesystem`.

    Makes the promises of this module: whole objects or none, on S3 the same retries, errors that name the object.
    Pickles without credentials: each process takes them from its own environment.
    """
    if not is_s3(uri):
        return pyarrow.fs.PyFileSystem(arrow_objects.LocalHandler(write_bytes)), absolute(uri)
    return pyarrow.fs.PyFileSystem(arrow_objects.S3Handler()), uri.removeprefix("s3://").rstrip("/")


def is_s3(uri: str) -> bool:
    """Whether an object lies a network away."""
    return uri.startswith("s3://")


def _path(uri: str) -> Path:
    return Path(absolute(uri))


def as_uri(uri: str) -> str:
    """`s3://...` as it is, a local path as `file:///...`: what a manifest may say of an object outside its store."""
    return uri if is_s3(uri) else Path(uri).as_uri()


def _keys_below(prefix_uri: str) -> list[str]:
    directory = f"{prefix_uri.rstrip('/')}/"
    return [key for keys, _ in s3_objects.pages(directory) for key in keys]


def _swap_on_s3(uri: str, expected: bytes | None, new: bytes) -> tuple[bytes | None, bool]:
    there = _get_if_any(uri)
    seen = None if there is None else there.data
    if seen != expected:
        return seen, False
    if s3_objects.put_if(uri, new, replaces=there):
        return seen, True
    there = _get_if_any(uri)
    return (None if there is None else there.data), False


def _get_if_any(uri: str) -> s3_objects.S3Object | None:
    try:
        return s3_objects.get(uri)
    except NotFoundError:
        return None


def _excerpt(content: bytes | None) -> str:
    return "no object" if content is None else repr(content.decode(errors="replace"))[:200]


@contextmanager
def _local_errors(verb: str, uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}: cannot {verb}: there is no such file") from error
    except OSError as error:
        raise StoreError(
            f"{uri}: cannot {verb}: {error.strerror or error}. Check the path, its permissions and the free space"
        ) from error
