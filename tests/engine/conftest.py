"""A Ray cluster for the engine's tests, and galleries that are quick to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fct_ray.engine.cluster import ClusterSettings, ClusterSize, connected
from tests.engine.living import Living
from tests.fashion_vectors import Vectors, fashion_vectors


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterSize]:
    """A local Ray cluster of two CPUs."""
    with connected(ClusterSettings(num_cpus=2)) as size:
        yield size


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    """6,000 real photos by three encoders."""
    return fashion_vectors(6000)


@pytest.fixture(scope="session")
def adopted(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors, cluster: ClusterSize) -> Living:
    """An adopted gallery of the first 4,000 photos; the others can be appended. Tests work on copies."""
    return Living(tmp_path_factory.mktemp("adopted"), vectors, cluster)


@pytest.fixture
def living(adopted: Living, tmp_path: Path) -> Living:
    """A copy of it."""
    return adopted.copy(tmp_path)
