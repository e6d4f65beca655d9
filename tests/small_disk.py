"""A real disk of a few megabytes that can be full: a tmpfs in a mount namespace of its own.

Owns: making it, growing it, ending it. Needs no privileges where user namespaces are allowed; elsewhere tests that
need it are skipped, with the reason. Sizes are in bytes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_SERVE = 'while read options; do mount -t tmpfs -o "$options" tmpfs "$1" && echo done || echo failed; done'


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallDisk:
    """A file system of its own at `path`, which any process of this user can use."""

    path: Path
    process: subprocess.Popen[str]

    def resize(self, num_bytes: int) -> None:
        """Give it another size; what lies on it stays."""
        self.mount(f"remount,size={num_bytes}")

    def mount(self, options: str) -> None:
        """Mount it, or mount it again with other options. Raises RuntimeError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(options, file=self.process.stdin, flush=True)
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"mounting a tmpfs with {options} failed")


@contextmanager
def small_disk(directory: Path, num_bytes: int) -> Iterator[SmallDisk]:
    """A disk of `num_bytes`, seen at `/proc/<process>/root/<directory>`: the mount is in the other process's world."""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", _SERVE, "sh", str(directory)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except FileNotFoundError:
        pytest.skip("a disk that can be full needs `unshare` (util-linux)")
    with process:
        disk = SmallDisk(path=Path(f"/proc/{process.pid}/root{directory}"), process=process)
        try:
            disk.mount(f"size={num_bytes}")
        except (RuntimeError, BrokenPipeError):
            pytest.skip("a disk that can be full needs mount namespaces, which are not permitted here")
        yield disk
