"""Fixtures for every room's tests: a real S3 server and a fresh place on it, a real Ray cluster.

Owns: one server and one cluster per test session, started when the first test asks for them; and which tests may run
beside each other (`make test` has two processes): those that use Ray run one after the other, for each keeps both cores busy.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected
from tests.s3_server import S3Server, s3_server

ROOT = Path(__file__).resolve().parents[1]
USE_RAY = {"bench", "chaos", "cluster", "engine", "jobs"}


class RoomScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Files go to whichever process is free; all files of rooms that use Ray to one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "ray" if path.split("/")[1] in USE_RAY else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RoomScheduling:
    """With `-n 2` (pytest-xdist's own groups do nothing with pytest 9)."""
    return RoomScheduling(config, log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterSize]:
    """A local Ray cluster of two CPUs, whose workers can import the tests' modules; jobs join it (`tests/jobs`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        with connected(ClusterSettings(num_cpus=2)) as size:
            yield size


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The session's S3 server (SeaweedFS)."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("test")
        yield server


@pytest.fixture
def s3_uri(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh prefix `s3://test/...`; AWS_* variables of this process, and so of its children, point to the server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://test/{uuid.uuid4().hex[:12]}"
