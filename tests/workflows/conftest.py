"""Galleries for the engine's tests that are quick to make."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct_ray.engine.cluster import ClusterSize
from tests.fashion_vectors import Vectors, fashion_vectors
from tests.workflows.living import Living


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    """6,000 real photos by three encoders."""
    return fashion_vectors(6000)


@pytest.fixture(scope="session")
def adopted(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors, cluster: ClusterSize) -> Living:
    """An adopted gallery of the first 4,000 photos; the others can be appended. Tests work on copies."""
    return Living(tmp_path_factory.mktemp("adopted"), vectors, cluster)


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory, adopted: Living) -> Living:
    """A copy of it after its upgrade, to be copied."""
    living = adopted.copy(tmp_path_factory.mktemp("upgraded"))
    living.upgrade()
    return living


@pytest.fixture
def living(adopted: Living, tmp_path: Path) -> Living:
    """A copy of it."""
    return adopted.copy(tmp_path)
