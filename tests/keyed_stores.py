"""Stores whose items have keys, written by hand: no cluster, no encoder. Legend: N items, D dimensions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fct_ray.kinds import KeyType, Metric, Provenance
from fct_ray.plan.versions import adopted_manifest
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.storage import shards
from fct_ray.storage.pairs import write_table
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ObjectRef, ShardRecord

ENCODER = "old-api"


def uuids(count: int, seed: int = 0) -> list[uuid.UUID]:
    """Random UUIDs, the same for a seed."""
    rng = np.random.default_rng(seed)
    return [uuid.UUID(bytes=rng.bytes(16), version=4) for _ in range(count)]


def as_column(keys: Sequence[Any], key_type: KeyType) -> pa.Array:
    """Keys as a store has them."""
    if key_type is KeyType.UUID:
        return pa.array([key.bytes for key in keys], pa.binary(16))
    return pa.array(keys, pa.string() if key_type is KeyType.STRING else pa.binary())


def keyed_store(
    uri: str | Path,
    keys_by_shard: Sequence[Sequence[Any]],
    key_type: KeyType,
    vectors_ND: np.ndarray | None = None,
    carried: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[Store, Manifest]:
    """A store of one shard for each list of keys; ids count from 0, vectors are random where none are given."""
    store, first, records = Store(str(uri)), 0, []
    rng = np.random.default_rng(1)
    for shard, keys in enumerate(keys_by_shard):
        ids_N = np.arange(first, first + len(keys))
        first += len(keys)
        rows_ND = rng.normal(size=(len(keys), 4)) if vectors_ND is None else vectors_ND[ids_N]
        more = {name: [values[row] for row in ids_N.tolist()] for name, values in (carried or {}).items()}
        table = shards.build_table(ids_N, rows_ND.astype(np.float32), None, more, keys=as_column(keys, key_type))
        path = Store.shard_path(1, shard)
        num_bytes, sha256 = write_table(store.uri_of(path), table)
        records.append(
            ShardRecord(
                shard=shard,
                embeddings=ObjectRef(path=path, bytes=num_bytes, sha256=sha256),
                index=None,
                rows=len(keys),
                id_min=int(ids_N[0]),
                id_max=int(ids_N[-1]),
                provenance=Provenance.EMBEDDED,
            )
        )
    manifest = adopted_manifest(
        version=1,
        created_at="2026-01-01T00:00:00+00:00",
        encoder=resolve_encoder(ENCODER, store).ref,
        dimension=4 if vectors_ND is None else vectors_ND.shape[1],
        metric=Metric.IP,
        normalized=False,
        side_info=None,
        records=records,
        run="adopt-1",
        keys=key_type,
    )
    store.publish(manifest, expected=None)
    return store, manifest
