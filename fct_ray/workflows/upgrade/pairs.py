"""Collecting pairs: items of the gallery for which old, side and new embeddings are all known.

    users' file (id, embedding)  --> which stored rows have these ids? --+
    new encoder over raw items   <-- sampled ids of every shard ---------+--> runs/<run id>/pairs.parquet

Owns: that join and its cache. Pairs come from the gallery itself, because h must see what it will transform.
Legend: P pairs, D old, S side, W new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError
from fct_ray.key_types import UserIds
from fct_ray.metering.meters import StageMeter
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.sources.registry import open_source
from fct_ray.storage.keys import as_stored
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.item_positions import positions_of
from fct_ray.workflows.keys import ids_of, not_in_store
from fct_ray.workflows.upgrade.pair_origin import PairsFromFile
from fct_ray.workflows.upgrade.stored_sample import StoredRows, matrix, rows_with_ids, sampled_rows

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """P pairs, ascending by id."""

    ids_P: IntArray
    old_PD: FloatArray
    side_PS: FloatArray | None
    new_PW: FloatArray
    labels_P: IntArray | None

    def rows(self, mask_P: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs where the mask is true."""
        return Pairs(
            ids_P=self.ids_P[mask_P],
            old_PD=self.old_PD[mask_P],
            side_PS=None if self.side_PS is None else self.side_PS[mask_P],
            new_PW=self.new_PW[mask_P],
            labels_P=None if self.labels_P is None else self.labels_P[mask_P],
        )

    def to_table(self) -> pa.Table:
        """Columns id, old, side, new, label as Arrow; what the cache and the fit read."""
        columns: dict[str, pa.Array] = {"id": pa.array(self.ids_P), "old": vectors_column(self.old_PD)}
        if self.side_PS is not None:
            columns["side"] = vectors_column(self.side_PS)
        columns["new"] = vectors_column(self.new_PW)
        if self.labels_P is not None:
            columns["label"] = pa.array(self.labels_P)
        return pa.table(columns)

    def with_more(self, others: Pairs | None) -> Pairs:
        """These pairs and others, ascending by id; labels only where both have them."""
        if others is None or len(others.ids_P) == 0:
            return self
        tables = [self.to_table(), others.to_table()]
        common = [name for name in tables[0].column_names if name in tables[1].column_names]
        return Pairs.from_table(pa.concat_tables([table.select(common) for table in tables]).sort_by("id"))

    @staticmethod
    def from_table(table: pa.Table) -> Pairs:
        """The inverse of `to_table`."""
        stored = StoredRows.from_table(table)
        return Pairs(
            ids_P=stored.ids_G,
            old_PD=stored.old_GD,
            side_PS=stored.side_GS,
            new_PW=matrix(table, "new"),
            labels_P=stored.labels_G,
        )


def pairs_from_file(
    store: Store, manifest: Manifest, origin: PairsFromFile, *, use_side: bool, meter: StageMeter
) -> Pairs:
    """Pairs from a Parquet file of (id, embedding) that the new model made for a sample of ids.

    Raises:
        DataError: ids of the file that the store does not have; the message shows how many and which.
    """
    given, pairs_uri = origin.given, origin.uri
    given_P = ids_of(store, manifest, given.ids, pairs_uri)
    order = np.argsort(given_P, kind="stable")
    ids_P, new_PW = given_P[order], given.embeddings_NW[order]
    check_ids_in_range(ids_P, manifest, pairs_uri)
    stored = rows_with_ids(store, manifest, ids_P, use_side=use_side, meter=meter, describe="pairs")
    missing = np.setdiff1d(ids_P, stored["id"].to_numpy())
    if len(missing):
        raise DataError(not_in_store(missing, len(ids_P), pairs_uri))
    return Pairs.from_table(stored.append_column("new", vectors_column(new_PW)))


def check_ids_in_range(ids_P: IntArray, manifest: Manifest, pairs_uri: str) -> None:
    """Refuse, before any worker starts, ids that lie outside every shard's id range."""
    low = np.array([record.id_min for record in manifest.shards])
    high = np.array([record.id_max for record in manifest.shards])
    inside = np.zeros(len(ids_P), dtype=bool)
    for id_min, id_max in zip(low, high, strict=True):
        inside |= (ids_P >= id_min) & (ids_P <= id_max)
    if not inside.all():
        raise DataError(not_in_store(ids_P[~inside], len(ids_P), pairs_uri))


def check_given_ids(given: UserIds, manifest: Manifest, uri: str) -> None:
    """Refuse, before any worker starts, ids of another type than the store's, or outside every shard's id range.

    Raises:
        FormatError: they are of another type, keys in a store without keys or the other way round.
        DataError: they are outside; whether a store with keys has them, is seen when its keys are read.
    """
    wanted = as_stored(given, manifest.keys, uri)
    if manifest.keys is None:
        check_ids_in_range(wanted.to_numpy(), manifest, uri)


def pairs_from_encoder(
    store: Store,
    manifest: Manifest,
    *,
    source_spec: str,
    encoder_uri: EncoderSpec,
    num_pairs: int,
    seed: int,
    use_side: bool,
    pool: PoolSettings,
    size: ClusterSize,
    meter: StageMeter,
) -> Pairs:
    """Pairs from the new encoder over raw items of a sample that is stratified over the shards.

    Raises:
        SourceError: the source does not have an id of the gallery.
    """
    stored = sampled_rows(
        store, manifest, num_pairs, seed=seed, use_side=use_side, meter=meter, describe="pairs: sample the store"
    )
    source = open_source(source_spec)
    positions_P = positions_of(store, manifest, stored["id"].to_numpy(), source)
    encoded = encode_items(
        source, (encoder_uri,), positions_P, pool=pool, size=size, describe="pairs: embed with the new model"
    )
    meter.add(encoded.usage.replace(rows=0))  # each pair is counted once: when its row was picked
    return Pairs.from_table(stored.append_column("new", vectors_column(encoded.embeddings[0])))
