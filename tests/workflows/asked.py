"""Real queries for a gallery of photos: noisy photos, each of which should find the photo that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.trainer import TrainSettings
from fct_ray.kinds import WayChoice
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.sources.registry import open_source
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.fashion_vectors import encoders, fixed_size_list
from tests.workflows.living import START, Living

NOISE = 0.3


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Queries by three encoders, and for each the item that it looks for."""

    relevant_Q: npt.NDArray[np.int64]
    old_QD: npt.NDArray[np.float32]
    side_QS: npt.NDArray[np.float32]
    new_QW: npt.NDArray[np.float32]

    def write(self, path: Path, columns: Sequence[str] = ("old", "side", "new")) -> str:
        """A file of real queries with these columns of embeddings."""
        arrays = {"old": self.old_QD, "side": self.side_QS, "new": self.new_QW}
        table = {"relevant": pa.array([[int(item)] for item in self.relevant_Q], pa.list_(pa.int64()))}
        table |= {name: fixed_size_list(arrays[name]) for name in columns}
        pq.write_table(pa.table(table), path)
        return str(path)


def noisy_photos(living: Living, num_queries: int = 300) -> Asked:
    """Photos of the gallery with noise on every pixel."""
    rng = np.random.default_rng(3)
    rows = rng.permutation(START)[:num_queries]
    images = open_source("fashion-mnist:gallery").read(np.sort(rows)).columns["image"]
    pixels_Q = np.asarray(images, dtype=np.float32).reshape(num_queries, -1) / 255.0
    noisy_Q = np.clip(pixels_Q + rng.normal(0.0, NOISE, pixels_Q.shape), 0.0, 1.0).astype(np.float32)
    return Asked(
        relevant_Q=living.vectors.ids_N[np.sort(rows)],
        old_QD=encoders()["old"](noisy_Q),
        side_QS=encoders()["side"](noisy_Q),
        new_QW=encoders()["new"](noisy_Q),
    )


def by_queries(living: Living, queries: str, way: WayChoice = WayChoice.NOTHING_FITTED) -> UpgradeSettings:
    """An upgrade that these queries judge, quick to fit."""
    return UpgradeSettings(
        store=living.store.uri,
        encoder="new-api",
        pairs=living.pairs,
        queries=queries,
        way=way,
        index="IVF16,Flat",
        pool=PoolSettings(min_actors=1, max_actors=1),
        **QUICK_FIT,
    )


QUICK_FIT: dict[str, Any] = {"fit": TransformationFit(inner=64, epochs=5), "train": TrainSettings(num_workers=1)}


def taken(asked: Asked, rows: npt.NDArray[np.int_]) -> Asked:
    """Some of the queries."""
    return replace(
        asked,
        relevant_Q=asked.relevant_Q[rows],
        old_QD=asked.old_QD[rows],
        side_QS=asked.side_QS[rows],
        new_QW=asked.new_QW[rows],
    )


def adopted_rows(
    directory: Path,
    like: Living,
    old_GD: npt.NDArray[np.float32],
    side_GS: npt.NDArray[np.float32] | None = None,
    labels_G: npt.NDArray[np.int64] | None = None,
    num_shards: int = 3,
) -> Living:
    """A store of these rows, whose ids are their positions."""
    made = like.copy(directory / "copy")
    made.store = Store(str(directory / "made"))
    (directory / "rows").mkdir()
    for shard, rows in enumerate(np.array_split(np.arange(len(old_GD)), num_shards)):
        columns = {"id": pa.array(rows, pa.int64()), "embedding": fixed_size_list(old_GD[rows])}
        if side_GS is not None:
            columns["side_info"] = fixed_size_list(side_GS[rows])
        if labels_G is not None:
            columns["label"] = pa.array(labels_G[rows], pa.int64())
        pq.write_table(pa.table(columns), directory / "rows" / f"{shard}.parquet")
    run_adopt(plan_adopt(AdoptSettings(store=made.store.uri, embeddings=str(directory / "rows"), encoder="old-api")))
    return made


def write_new(path: Path, ids: npt.NDArray[np.integer], new_NW: npt.NDArray[np.float32]) -> str:
    """Embeddings of items by the new encoder: pairs, or what was wanted."""
    pq.write_table(pa.table({"id": np.asarray(ids, np.int64), "embedding": fixed_size_list(new_NW)}), path)
    return str(path)


def unit(rows_ND: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Rows at length 1."""
    return np.asarray(rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True), dtype=np.float32)
