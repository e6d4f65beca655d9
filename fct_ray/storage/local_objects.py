"""Objects as files: atomic writes, create-only, compare-and-swap on a POSIX file system.

Owns: how bytes become a durable file that is either whole or not there. Speaks absolute paths and raises the
standard `OSError`s; `objects` turns those into our errors. Names that begin with a dot are its own (temporary and
lock files) and never listed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".tmp"


def write(path: Path, data: bytes) -> None:
    """Write `data` as the whole content of `path`: temporary file, fsync, rename."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Write `path` only if it does not exist; False if it does. A hard link is the atomic step."""
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_directory(path.parent)
    return True


def compare_and_swap(path: Path, *, expected: bytes | None, new: bytes) -> bytes | None:
    """Replace the content of `path` if it is `expected` (None: absent); returns what was seen.

    The swap took place exactly when the returned value equals `expected`. The lock file beside `path` stays: to
    delete it would let two writers lock two different files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f".{path.name}.lock")):
        seen = path.read_bytes() if path.exists() else None
        if seen == expected:
            write(path, new)
        return seen


def files(directory: Path) -> Iterator[Path]:
    """All files below `directory`, in no order; nothing if there is no such directory.

    Files and directories whose names begin with a dot are left out, unless they lie above `directory`.
    """
    for root, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root) / name for name in names if not name.startswith("."))


def all_files(directory: Path) -> Iterator[Path]:
    """All files below `directory`, in no order, whatever their names."""
    for root, _, names in os.walk(directory):
        yield from (Path(root) / name for name in names)


def litter(directory: Path) -> Iterator[Path]:
    """Temporary files below `directory`: writers are at work on them, or were killed."""
    return (path for path in all_files(directory) if path.name.startswith(".") and path.name.endswith(_TEMPORARY))


def children(directory: Path) -> list[str]:
    """Names of files, and of directories that hold files, directly in `directory`; empty if there is none.

    An empty directory is invisible, as on S3: it is what a writer leaves for a moment before its first object.
    """
    if not directory.is_dir():
        return []
    entries = (entry for entry in os.scandir(directory) if not entry.name.startswith("."))
    return [entry.name for entry in entries if entry.is_file() or any(files(Path(entry.path)))]


def delete_tree(path: Path) -> None:
    """Remove a file, or a directory with all it holds; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_temporary(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    # flock, not lockf: it also excludes other threads of this process.
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
