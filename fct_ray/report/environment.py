"""Where numbers were measured: versions of the libraries that made them and a line about the machine.

Owns: reading the installed distributions and the machine's size. Reads no clock (the time is an argument), no
host name, no user name and no environment variable, so that a report can be shown to anyone.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import datetime
from importlib import metadata

import psutil

from fct_ray.report.content import Environment

DISTRIBUTIONS = ("fct_ray", "ray", "torch", "torchvision", "faiss-cpu", "pyarrow", "numpy", "s3fs")


def describe_environment(time: datetime, distributions: Iterable[str] = DISTRIBUTIONS) -> Environment:
    """The environment of this process; distributions that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Environment(time=time.isoformat(timespec="seconds"), machine=_machine(), versions=versions)


def _machine() -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} CPU cores, {memory_gib:.0f} GiB memory"
