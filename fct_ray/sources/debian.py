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


def unpack_packages(packages: Sequence[str], target: Path) -> None:
    """Download Debian packages and unpack their files below `target`.

    Raises:
        SourceError: there is no apt-get here, or a package cannot be downloaded; the message names it.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise SourceError(f"apt-get and dpkg are not on this machine; wanted them to unpack {', '.join(packages)}")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages]
        if _run(command, scratch) != "":
            lists = Path(scratch) / "lists"
            (lists / "partial").mkdir(parents=True)
            own_lists = ["-o", f"Dir::State::lists={lists}", "-o", "APT::Sandbox::User=root"]
            _run(["apt-get", *own_lists, "update"], scratch)
            problem = _run(["apt-get", *own_lists, "download", *packages], scratch)
            if problem:
                raise SourceError(f"Debian packages {', '.join(packages)} cannot be downloaded: {problem}")
        for archive in sorted(Path(scratch).glob("*.deb")):
            problem = _run(["dpkg", "-x", str(archive), str(target)], scratch)
            if problem:
                raise SourceError(f"{archive.name} cannot be unpacked: {problem}")


def _run(command: Sequence[str], directory: str) -> str:
    """The last line of what went wrong, or an empty string."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 (our own words)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
