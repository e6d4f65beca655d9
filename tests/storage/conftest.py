"""Every promise of `objects` and `Store` is checked in both places where a store may lie."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for objects: a local directory, then a prefix on the S3 server."""
    if request.param == "local":
        return str(tmp_path)
    uri: str = request.getfixturevalue("s3_uri")
    return uri
