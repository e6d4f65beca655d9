"""A PostgreSQL server for the tests of connectors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a real server with pgvector."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory, postgres_server(Path(directory)) as uri:
        yield uri
