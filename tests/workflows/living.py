"""A gallery that lives: adopted once, then appended to, deleted from and upgraded, in a test's own directory."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import Accept
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.delete import DeleteSettings, delete
from fct_ray.workflows.upgrade.plan import UpgradePlan, plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.fashion_vectors import Vectors
from tests.galleries import linear_h, write_ids, write_pairs, write_rows

NUM_SHARDS, START = 5, 4000


class Living:
    """A store of the first 4,000 photos; the others can be appended."""

    def __init__(self, directory: Path, vectors: Vectors, size: ClusterSize) -> None:
        self.directory, self.vectors, self.size, self.edits = directory, vectors, size, 0
        self.store, self.photos = Store(str(directory / "store")), directory / "adopted"
        for shard, rows in enumerate(np.array_split(np.arange(START), NUM_SHARDS)):
            write_rows(self.photos / f"{shard}.parquet", vectors, rows)
        run_adopt(plan_adopt(AdoptSettings(store=self.store.uri, embeddings=str(self.photos), encoder="old-api")))
        self.pairs = str(write_pairs(directory / "pairs.parquet", vectors, np.arange(0, START, 4)))
        self.h = linear_h(self.store, vectors, "new-api", directory / "models")

    def copy(self, directory: Path) -> Living:
        """The same gallery with a store of its own; what was adopted, pairs and h lie where they were."""
        twin = copy.copy(self)
        twin.directory, twin.store = directory, Store(str(directory / "store"))
        shutil.copytree(self.store.uri, twin.store.uri)
        return twin

    def append(self, start: int, stop: int) -> Manifest:
        self.edits += 1
        path = write_rows(self.directory / f"new-{self.edits}.parquet", self.vectors, np.arange(start, stop))
        return append(
            AppendSettings(store=self.store.uri, encoder="old-api", embeddings=str(path)), self.size
        ).published

    def delete(self, rows: np.ndarray) -> Manifest:
        self.edits += 1
        ids = write_ids(self.directory / f"gone-{self.edits}.parquet", self.vectors.ids_N[rows])
        return delete(DeleteSettings(store=self.store.uri, ids=ids)).published

    def settings(self) -> UpgradeSettings:
        return UpgradeSettings(
            store=self.store.uri,
            encoder="new-api",
            pairs=self.pairs,
            transformation=self.h,
            accept=Accept.PROVISIONAL,
            index="IVF16,Flat",
            pool=PoolSettings(min_actors=1, max_actors=1),  # an actor's start costs more than these shards
        )

    def plan(self) -> UpgradePlan:
        return plan_upgrade(self.settings(), None, None)

    def upgrade(self, plan: UpgradePlan | None = None) -> UpgradeOutcome:
        return run_upgrade(plan or self.plan(), self.size)
