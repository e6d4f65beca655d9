"""Fixtures for every room's tests: a real S3 server and a fresh place on it, a real Ray cluster.

Owns: one server and one cluster per process of a test session, started when the first test asks for them; and which tests
may run beside each other (`make test` has two processes).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected
from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.s3_server import S3Server, s3_server

ROOT = Path(__file__).resolve().parents[1]
START_CLUSTERS = {"bench", "chaos", "cluster", "test_s3.py", "packaging", "test_json_output.py"}
SHARE_A_CLUSTER = {"engine": "workflows", "workflows": "workflows", "jobs": "jobs", "api": "docs", "docs": "docs"}
"""Rooms whose tests use the process's cluster and the fixtures of their group: a group stays in one process."""
FIRST = ("start clusters", "workflows", "jobs", "docs")
"""The longest groups, so that short files are left to level the processes at the end."""


class RoomScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Groups and files go to whichever process is free, long groups first.

    Those that start clusters of their own come before any other in their process: it has no cluster of its own yet.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        rooms = path.split("/")
        if set(rooms) & START_CLUSTERS:
            return "start clusters"
        return next((SHARE_A_CLUSTER[room] for room in rooms if room in SHARE_A_CLUSTER), path)

    def _assign_work_unit(self, node: Any) -> None:
        longest = next((scope for scope in FIRST if scope in self.workqueue), None)
        if longest is not None:
            self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RoomScheduling:
    """With `-n 2` (pytest-xdist's own groups do nothing with pytest 9)."""
    return RoomScheduling(config, log)


@pytest.fixture(scope="session")
def cluster(s3: S3Server, s3_proxy: FaultyS3) -> Iterator[ClusterSize]:
    """A local Ray cluster of two CPUs that jobs join (`tests/jobs`).

    Its workers can import the tests' modules and use the S3 server, by way of the proxy.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        with pytest.MonkeyPatch.context() as for_workers:
            for name, value in {**s3.environment(), "AWS_ENDPOINT_URL": s3_proxy.endpoint}.items():
                for_workers.setenv(name, value)
            size = stack.enter_context(connected(ClusterSettings(num_cpus=2)))
        yield size


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The session's S3 server (SeaweedFS)."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("test")
        yield server


@pytest.fixture(scope="session")
def s3_proxy(s3: S3Server) -> Iterator[FaultyS3]:
    """Between clients and the server; lets everything pass until a test gives it a schedule."""
    with faulty_s3(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def s3_uri(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh prefix `s3://test/...`; AWS_* variables of this process, and so of its children, point to the server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://test/{uuid.uuid4().hex[:12]}"
