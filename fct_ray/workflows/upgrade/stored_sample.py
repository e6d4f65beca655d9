"""Rows of a version that come to the driver: pairs by their ids, and a sample of the gallery to judge by.

Owns: which shards are read for them, by one task each, and the table that comes back. Legend: G rows, D dimensions of
old, S of side-information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.tasks import map_tasks
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.splits import pairs_per_shard
from fct_ray.shards.stored_rows import ShardSelection, select_rows
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import Manifest

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
MAX_SAMPLED_SHARDS = 32
"""A sample is taken from so many shards, spread over the version: each shard that it touches is read whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRows:
    """Rows of a version, ascending by id."""

    ids_G: IntArray
    old_GD: FloatArray
    side_GS: FloatArray | None
    labels_G: IntArray | None

    @staticmethod
    def from_table(table: pa.Table) -> StoredRows:
        """From columns id, old, side, label."""
        names = table.column_names
        return StoredRows(
            ids_G=table["id"].to_numpy(),
            old_GD=matrix(table, "old"),
            side_GS=matrix(table, "side") if "side" in names else None,
            labels_G=table["label"].to_numpy() if "label" in names else None,
        )


def matrix(table: pa.Table, name: str) -> FloatArray:
    """A column of vectors as float32 [G, D]."""
    column = table[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(len(table), -1))


def rows_with_ids(
    store: Store, manifest: Manifest, ids_P: IntArray, *, use_side: bool, meter: StageMeter, describe: str
) -> pa.Table:
    """The rows with these ids, as (id, old, side, label); ids that the version lacks are left out."""
    wanted = {record.shard: ids_P[(ids_P >= record.id_min) & (ids_P <= record.id_max)] for record in manifest.shards}
    return _collected(store, manifest, wanted, {}, seed=0, use_side=use_side, meter=meter, describe=describe)


def sampled_rows(
    store: Store, manifest: Manifest, count: int, *, seed: int, use_side: bool, meter: StageMeter, describe: str
) -> pa.Table:
    """`count` rows that are stratified over all shards, as (id, old, side, label)."""
    counts = pairs_per_shard([record.rows for record in manifest.shards], count)
    of_shard = {record.shard: number for record, number in zip(manifest.shards, counts, strict=True)}
    return _collected(store, manifest, {}, of_shard, seed=seed, use_side=use_side, meter=meter, describe=describe)


def gallery_sample(
    store: Store,
    manifest: Manifest,
    max_rows: int,
    also_P: IntArray,
    *,
    seed: int,
    use_side: bool,
    meter: StageMeter,
    describe: str = "gate: read the gallery",
) -> StoredRows:
    """The gallery, or `max_rows` rows of it from at most 32 shards, and in any case the rows with the ids `also_P`."""
    chosen = np.unique(np.linspace(0, len(manifest.shards) - 1, MAX_SAMPLED_SHARDS).astype(int))
    records = [manifest.shards[position] for position in chosen]
    if manifest.num_rows <= max_rows:
        records = list(manifest.shards)
    rows = [record.rows for record in records]
    counts = pairs_per_shard(rows, min(sum(rows), max_rows))
    of_shard = {record.shard: number for record, number in zip(records, counts, strict=True)}
    wanted = {record.shard: also_P[(also_P >= record.id_min) & (also_P <= record.id_max)] for record in manifest.shards}
    table = _collected(store, manifest, wanted, of_shard, seed=seed, use_side=use_side, meter=meter, describe=describe)
    return StoredRows.from_table(table)


def _collected(
    store: Store,
    manifest: Manifest,
    wanted: dict[int, IntArray],
    counts: dict[int, int],
    *,
    seed: int,
    use_side: bool,
    meter: StageMeter,
    describe: str,
) -> pa.Table:
    side = manifest.side_info
    selections = [
        ShardSelection(
            store_uri=store.uri,
            embeddings=record.embeddings,
            reading=Reading.of(manifest),
            first_id=record.id_min,
            dimension=manifest.dimension,
            side_dimension=side.dimension if side is not None and use_side else None,
            wanted_ids=wanted.get(record.shard),
            count=counts.get(record.shard, 0),
            seed=seed,
        )
        for record in manifest.shards
        if counts.get(record.shard) or len(wanted.get(record.shard, ()))
    ]
    return _read(selections, meter, describe)


def _read(selections: Sequence[ShardSelection], meter: StageMeter, describe: str) -> pa.Table:
    tables = []
    for _, (table, usage) in map_tasks(
        select_rows, selections, describe=describe, name=lambda selection: selection.embeddings.path
    ):
        tables.append(table)
        meter.add(usage)
    names = set.intersection(*(set(table.column_names) for table in tables))  # labels count where every shard has them
    common = [name for name in tables[0].column_names if name in names]
    return pa.concat_tables([table.select(common) for table in tables]).sort_by("id").combine_chunks()
