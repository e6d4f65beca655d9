"""Every promise of `objects` and `Store` is checked in both places where a store may lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.s3_server import S3Server


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for objects: a local directory, then a prefix on the S3 server."""
    if request.param == "local":
        return str(tmp_path)
    uri: str = request.getfixturevalue("s3_uri")
    return uri


@pytest.fixture
def faulty(s3: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy that the environment now points to; faultless until told otherwise. Its stalls last 30 s."""
    with faulty_s3(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
