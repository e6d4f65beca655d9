"""A store that an earlier version of this package wrote opens, verifies, lives on and upgrades.

`tests/storage/written_before/format_1` was written by release 0.1.0's first code: 500 photos embedded in two shards, 100
appended, 5 deleted. The format on disk is a promise; the code that wrote it is gone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import Accept
from fct_ray.storage.store import Store
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.garbage_collection import collect
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import GateSettings, UpgradeSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.conftest import ROOT
from tests.fashion_vectors import fashion_vectors
from tests.galleries import linear_h, read_version

WRITTEN = ROOT / "tests/storage/written_before/format_1"
ENCODERS = "tests.jobs.fashion_encoders"
ONE_ACTOR = PoolSettings(min_actors=1, max_actors=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(WRITTEN, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def test_it_opens_and_verifies_and_its_items_find_themselves(store: Store, cluster: ClusterSize) -> None:
    verified = verify_store(VerifySettings(store=store.uri))
    assert (verified.problems, verified.manifest.num_rows, store.versions()) == ((), 595, [1, 2, 3])
    table = read_version(store, verified.manifest)
    vectors_ND = np.stack(table["embedding"].to_numpy(zero_copy_only=False))[:20]
    _, ids_QK = open_searcher(store.uri, f"{ENCODERS}:old").search(vectors_ND, 5)
    assert all(item in found for item, found in zip(table["id"].to_pylist()[:20], ids_QK, strict=True))


@pytest.mark.journey
def test_it_lives_on_and_upgrades(store: Store, cluster: ClusterSize, tmp_path: Path) -> None:
    settings = AppendSettings(
        store=store.uri,
        encoder=f"{ENCODERS}:old",
        side=f"{ENCODERS}:side",
        source="fashion-mnist:gallery?limit=650",
        rows_per_shard=250,
        pool=ONE_ACTOR,
    )
    assert append(settings, cluster).published.num_rows == 650
    h = linear_h(store, fashion_vectors(4000), f"{ENCODERS}:new", tmp_path / "models")
    upgrade = UpgradeSettings(
        store=store.uri,
        encoder=f"{ENCODERS}:new",
        source="fashion-mnist:gallery?limit=650",
        num_pairs=400,
        transformation=h,
        accept=Accept.PROVISIONAL,
        gate=GateSettings(tolerance=0.2),  # a few photos judge; what is published is not the point here
        pool=ONE_ACTOR,
    )
    outcome = run_upgrade(plan_upgrade(upgrade, None, None), cluster)
    assert outcome.published is not None, outcome.judged
    assert (outcome.published.version, outcome.published.num_rows) == (5, 650)
    collect(store, keep=1, purge=True)
    assert verify_store(VerifySettings(store=store.uri)).problems == ()
