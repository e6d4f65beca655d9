"""Fixtures for every room's tests: a real S3 server, and a fresh place on it.

Owns: one server per test session, started when the first test asks for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.s3_server import S3Server, s3_server


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
