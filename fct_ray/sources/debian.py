"""Data sets that Debian packages carry, unpacked into a directory of our own: no root, nothing installed.

Owns: `apt-get download` and `dpkg -x`. For machines whose only way out is a package registry; the fall-back after a
data set's own downloader.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fct_ray.errors import SourceError

APT_OPTIONS = ("-o", "APT::Sandbox::User=root", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=2")
"""Runs as any user; gives up within seconds where no registry answers."""


def unpack_packages(packages: Sequence[str], target: Path) -> None:
    """Download Debian packages and unpack their files below `target`.

    Where this machine's package lists are missing or stale, fresh ones are fetched into a scratch directory.

    Raises:
        SourceError: there is no apt-get here, or a package cannot be downloaded; the message names it.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise SourceError(f"apt-get and dpkg are not on this machine; wanted them to unpack {', '.join(packages)}")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _download(packages, Path(scratch))
        for archive in sorted(Path(scratch).glob("*.deb")):
            problem = _run(["dpkg", "-x", str(archive), str(target)], scratch)
            if problem:
                raise SourceError(f"{archive.name} cannot be unpacked below {target}: {problem}; is the disk full?")


def _download(packages: Sequence[str], scratch: Path) -> None:
    if not _run(["apt-get", *APT_OPTIONS, "download", *packages], str(scratch)):
        return
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
    own = [*APT_OPTIONS, "-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
    update = _run(["apt-get", *own, "update"], str(scratch))
    problem = _run(["apt-get", *own, "download", *packages], str(scratch))
    if problem:
        raise SourceError(
            f"Debian packages {', '.join(packages)} cannot be downloaded: {problem}"
            + (f" (apt-get update: {update})" if update else "")
            + "; check that this machine reaches a Debian mirror with the component main"
        )


def _run(command: Sequence[str], directory: str) -> str:
    """The last line of what went wrong, or an empty string."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 (our words)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
