"""Objects as pyarrow file systems: S3 with the retries and errors of `s3_objects`, and whole files in both places.

Owns: output streams that write nothing before they are closed, so that an object is there whole or not at all and a
stream that is dropped after a failure writes nothing; and on S3 what pyarrow's file systems have and object storage
has not: directories (a prefix with something below it; to make one is to do nothing). Input streams from S3 and all
writes hold a whole object in memory; input files are read by ranges. Speaks pyarrow's paths: local ones, or
`bucket/key`. Pickles without credentials.

pyarrow's `copy_files` does not look at what fails when it closes a Python stream, which is when the object is written:
whoever must know that an object is there writes it with `objects.write_bytes`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, FSSpecHandler

from fct_ray.errors import NotFoundError
from fct_ray.storage import s3_objects


class LocalHandler(FSSpecHandler):  # type: ignore[misc]
    """Local files; pyarrow's own file system would leave the first half of a file when the disk is full."""

    def __init__(self, write: Callable[[str, bytes], object]) -> None:
        """`write(path, data)` writes a file, whole or not at all."""
        super().__init__(fsspec.filesystem("file"))
        self.write = write

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalHandler)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(LocalHandler)

    def open_output_stream(self, path: str, _metadata: Any) -> pa.NativeFile:
        """A stream that writes the file when it is closed."""
        return pa.PythonFile(_WholeWrite(functools.partial(self.write, path)), mode="w")


class S3Handler(FileSystemHandler):  # type: ignore[misc]
    """What `pyarrow.fs.PyFileSystem` calls; the methods are pyarrow's."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(S3Handler)

    def get_type_name(self) -> str:
        """The kind of file system."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """The path without a trailing slash."""
        return path.rstrip("/")

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        """What lies at each path."""
        return [_info(path) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """What lies in a directory. Raises FileNotFoundError if there is none, unless the selector allows it."""
        base = selector.base_dir.rstrip("/")
        bucket = base.partition("/")[0]
        found: dict[str, FileInfo] = {}
        for sizes, prefixes in s3_objects.pages(f"s3://{base}/", delimiter="" if selector.recursive else "/"):
            for key, size in sizes.items():
                path = f"{bucket}/{key}"
                for parent in PurePosixPath(path).relative_to(base).parents[:-1]:
                    found.setdefault(f"{base}/{parent}", FileInfo(f"{base}/{parent}", FileType.Directory))
                if not key.endswith("/"):
                    found[path] = FileInfo(path, FileType.File, size=size)
            for prefix in prefixes:
                path = f"{bucket}/{prefix.rstrip('/')}"
                found[path] = FileInfo(path, FileType.Directory)
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(f"s3://{base}: there is nothing")
        return list(found.values())

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: a directory is there when an object is."""

    def delete_dir(self, path: str) -> None:
        """Delete all objects below a directory."""
        self.delete_dir_contents(path, missing_dir_ok=True)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        """Delete all objects below a directory. Raises FileNotFoundError if it must be there and is not."""
        directory = f"s3://{path.rstrip('/')}/"
        keys = [key for sizes, _ in s3_objects.pages(directory) for key in sizes]
        if not keys and not missing_dir_ok:
            raise FileNotFoundError(f"{directory}: there is nothing")
        s3_objects.delete(directory, keys)

    def delete_root_dir_contents(self) -> None:
        """Refused."""
        raise PermissionError("refusing to delete all buckets")

    def delete_file(self, path: str) -> None:
        """Delete an object. Raises FileNotFoundError if there is none."""
        if s3_objects.size_bytes(f"s3://{path}") is None:
            raise FileNotFoundError(f"s3://{path}: there is no such object")
        s3_objects.delete(f"s3://{path}", [path.partition("/")[2]])

    def move(self, src: str, dest: str) -> None:
        """Copy an object, then delete the first one."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy an object through this process."""
        s3_objects.put(f"s3://{dest}", _read(src))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """An object's content, read already. Raises FileNotFoundError."""
        return pa.BufferReader(_read(path))

    def open_input_file(self, path: str) -> pa.NativeFile:
        """An object whose ranges are read when they are asked for. Raises FileNotFoundError."""
        return pa.PythonFile(_Ranges(path), mode="r")

    def open_output_stream(self, path: str, _metadata: Any) -> pa.NativeFile:
        """A stream that writes the object when it is closed."""
        return pa.PythonFile(_WholeWrite(functools.partial(s3_objects.put, f"s3://{path}")), mode="w")

    def open_append_stream(self, path: str, _metadata: Any) -> pa.NativeFile:
        """Refused: objects cannot grow."""
        raise NotImplementedError(f"s3://{path}: objects cannot be appended to")


class _WholeWrite:
    """Not an `io` class: those close themselves when they are dropped, and would write what a failure left."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.put, self.content, self.closed = write, io.BytesIO(), False

    def write(self, data: bytes) -> int:
        return self.content.write(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.put(self.content.getvalue())


class _Ranges(io.RawIOBase):
    """One request for each read: a Parquet reader asks for the footer and for whole columns of row groups."""

    def __init__(self, path: str) -> None:
        size = s3_objects.size_bytes(f"s3://{path}")
        if size is None:
            raise FileNotFoundError(f"s3://{path}: there is no such object")
        self.uri, self.size, self.at = f"s3://{path}", size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.size if size < 0 else min(self.size, self.at + size)
        data = s3_objects.get(self.uri, (self.at, stop)).data if stop > self.at else b""
        self.at += len(data)
        return data


def _read(path: str) -> bytes:
    try:
        return s3_objects.get(f"s3://{path}").data
    except NotFoundError as error:
        raise FileNotFoundError(str(error)) from error


def _info(path: str) -> FileInfo:
    directory = f"s3://{path.rstrip('/')}/"
    size = s3_objects.size_bytes(f"s3://{path}") if "/" in path else None
    if size is not None:
        return FileInfo(path, FileType.File, size=size)
    try:
        is_directory = any(sizes or prefixes for sizes, prefixes in s3_objects.pages(directory, delimiter="/"))
    except NotFoundError:
        is_directory = False
    return FileInfo(path, FileType.Directory if is_directory else FileType.NotFound)
