"""What episodes start from, and what they must end with: a small adopted store of real photos, and its undisturbed upgrades.

Owns: the gallery and the commands. An undisturbed upgrade is made once per setup; it also says how long stages take on
this machine, so that the moments of kills are spread over them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from tests.chaos.decisions import Setup, Stage
from tests.chaos.processes import Running
from tests.chaos.sight import look, stage_of
from tests.fashion_vectors import Vectors, fashion_vectors
from tests.galleries import linear_h, write_pairs, write_rows

NUM_SHARDS, NUM_ROWS, NUM_PHOTOS, PAIRS_EVERY = 16, 4000, 9000, 4
SMALL_FIT = ("--way", "h", "--fit.inner", "64", "--fit.epochs", "40", "--train.threads", "1")
UNDISTURBED_S = 400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Undisturbed:
    """An upgrade in which nobody was killed."""

    store: Path
    lengths_s: Mapping[Stage, float]
    """How long it was at each stage."""


class Scene:
    """A gallery of the first 4,000 photos in 16 shards, adopted as version 1; the others can be appended."""

    def __init__(self, directory: Path, address: str) -> None:
        """Make the store in a Ray cluster; nothing is upgraded yet."""
        self.directory, self.address, self._undisturbed = directory, address, dict[Setup, Undisturbed]()
        self.adopted, self.pairs = directory / "adopted-store", directory / "pairs.parquet"
        for shard, rows in enumerate(np.array_split(np.arange(NUM_ROWS), NUM_SHARDS)):
            write_rows(directory / "photos" / f"{shard:02d}.parquet", self.vectors, rows)
        write_pairs(self.pairs, self.vectors, np.arange(0, NUM_ROWS, PAIRS_EVERY))
        with connected(ClusterSettings(address=address)):
            run_adopt(
                plan_adopt(
                    AdoptSettings(store=str(self.adopted), embeddings=str(directory / "photos"), encoder="old-api")
                )
            )
        self.h = linear_h(Store(str(self.adopted)), self.vectors, "new-api", directory / "models")

    @cached_property
    def vectors(self) -> Vectors:
        """All photos by three encoders."""
        return fashion_vectors(NUM_PHOTOS)

    def copy(self, store: Path) -> Path:
        """A store of its own, not yet upgraded."""
        shutil.copytree(self.adopted, store)
        return store

    def driver(self, store: Path, setup: Setup) -> Running:
        """Start the upgrade of a store, as a user does."""
        arguments = ["jobs/upgrade.py", "--store", str(store), "--pairs", str(self.pairs), "--encoder", "new-api"]
        arguments += ["--index", setup.index, "--accept", "provisional"]
        arguments += SMALL_FIT if setup.fits else ["--transformation", self.h]
        arguments += ["--cluster.num-cpus", "2"] if setup.alone else []
        environment = {} if setup.alone else {"RAY_ADDRESS": self.address}
        return Running(arguments, store.with_suffix(".driver.txt"), environment)

    def undisturbed(self, setup: Setup) -> Undisturbed:
        """The upgrade of this setup without kills, on the cluster; made when it is first asked for."""
        setup = replace(setup, alone=False, living=False)
        if setup not in self._undisturbed:
            store = self.copy(self.directory / f"undisturbed-{len(self._undisturbed)}")
            lengths_s = _lengths_s(self.driver(store, setup), store, setup)
            self._undisturbed[setup] = Undisturbed(store=store, lengths_s=lengths_s)
        return self._undisturbed[setup]


def report_of(store: Path) -> dict[str, Any]:
    """The report of a store's upgrade."""
    (path,) = store.glob("runs/upgrade-*/report/report.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def _lengths_s(driver: Running, store: Path, setup: Setup) -> dict[Stage, float]:
    lengths_s, last_s, started_s = dict.fromkeys(Stage, 0.0), time.monotonic(), time.monotonic()
    while driver.code() is None:
        if time.monotonic() - started_s > UNDISTURBED_S:
            driver.kill_with_all_below()
        time.sleep(0.005)
        stage = stage_of(look(store, driver.pid), fits=setup.fits, verified_before=0)
        now_s = time.monotonic()
        lengths_s[stage] += now_s - last_s
        last_s = now_s
    if driver.code() != 0:
        raise RuntimeError(f"an undisturbed upgrade failed (exit code {driver.code()}): {driver.last_words()}")
    return lengths_s
