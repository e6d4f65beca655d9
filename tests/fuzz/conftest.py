"""One small real store, and one child process for the input that may crash a library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.outcome import Actions, Child
from tests.fuzz.small_store import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 (adopted) and 2 (current), a model, and beside the store its pairs."""
    return make_store(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="session")
def child(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """Where input runs that may crash a library."""
    child = Child(Actions(store, tmp_path_factory.mktemp("scratch")))
    yield child
    child.close()


@pytest.fixture(autouse=True)
def _the_store_keeps_its_bytes(store: Path) -> Iterator[None]:
    before = hashes(store)
    yield
    assert hashes(store) == before


def hashes(store: Path) -> dict[str, str]:
    """Every file of a store, with the hash of its bytes."""
    files = (path for path in sorted(store.rglob("*")) if path.is_file())
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
