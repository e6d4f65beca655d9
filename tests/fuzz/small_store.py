"""A small real store: version 1 adopted from a gallery, version 2 with an IVF index, receipts, a model, pairs.

Owns: its making, by the same functions that the jobs call, without Ray. Legend: N rows, D dimension.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from fct_ray.index.build import ShardIndexBuilder, train_index
from fct_ray.kinds import Metric, OnBadRow, Provenance
from fct_ray.models.model_files import PackedModel, pack_model
from fct_ray.models.transformation import Transformation, TransformationArchitecture
from fct_ray.plan.portions import Piece, Portion
from fct_ray.plan.versions import adopted_manifest
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.shards.inspected_objects import inspect_portion
from fct_ray.shards.model_directory import save_model
from fct_ray.storage import objects, parquet_listing, paths, shards
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.store import Store
from fct_ray.values import (
    AdoptedLayout,
    EncoderRef,
    IndexRef,
    Manifest,
    ObjectRef,
    Receipt,
    ShardRecord,
    SideInfoRef,
    Usage,
)

OLD, NOW, NEXT = (resolve_encoder(name, None).ref for name in ("old-api", "now-api", "next-api"))
ROWS, D, INDEX = 90, 8, "IVF4,Flat"


def gallery_table(shard: int) -> pa.Table:
    """One shard: unit vectors, int8 side-information, a label and a key."""
    generator = np.random.default_rng(shard)
    vectors = generator.normal(size=(ROWS, D)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids_N = np.arange(shard * ROWS, (shard + 1) * ROWS, dtype=np.int64)
    carried = {"label": ids_N % 3, "key": [f"item {number}" for number in ids_N]}
    return shards.build_table(ids_N, vectors, vectors[:, :4], carried, side_dtype="int8")


def packed_transformation() -> PackedModel:
    """An h from the store's encoder to the next one."""
    torch.manual_seed(0)
    module = Transformation(TransformationArchitecture(old_dimension=D, new_dimension=D, inner=8)).eval()
    return pack_model(
        module,
        kind="transformation",
        name="h",
        provenance={"usage": {"rows": 3}},
        from_encoder=NOW.fingerprint,
        to_encoder=NEXT.fingerprint,
    )


def make_store(directory: Path) -> Path:
    """The store, beside its gallery and `pairs.parquet` (ids of the store, embeddings by the next encoder)."""
    gallery, store = directory / "a gallery", Store(str(directory / "store"))
    for shard in range(2):
        pair_files.write_table(str(gallery / f"part {shard}.parquet"), gallery_table(shard))
    table = gallery_table(0)
    pair_files.write_table(str(directory / "pairs.parquet"), table.select(["id", "embedding"]))
    first = store.publish(_adopted(gallery), expected=None)
    store.claim_version("upgrade-2", 1)
    store.publish(_upgraded(store), expected=first)
    save_model(store.models_uri(), packed_transformation())
    return Path(store.uri)


def _adopted(gallery: Path) -> Manifest:
    uris = parquet_listing.list_parquet(str(gallery))
    return adopted_manifest(
        version=1,
        created_at="2026-01-01T00:00:00+00:00",
        encoder=OLD,
        dimension=D,
        metric=Metric.IP,
        normalized=True,
        side_info=SideInfoRef(name="s", fingerprint="f", dimension=4, dtype="int8"),
        records=[
            dataclasses.replace(seen.record, shard=shard)
            for shard, uri in enumerate(uris)
            for seen in inspect_portion(Portion(pieces=(Piece(uri=uri),)), AdoptedLayout(), OnBadRow.REFUSE)
        ],
        run="adopt-1",
        adopted_from=paths.adopted_root(uris),
    )


def _upgraded(store: Store) -> Manifest:
    parent, sample = store.manifest(1), gallery_table(0)
    vectors = shards.parse_shard(shards.encode_table(sample), "sample", dimension=D, side_dimension=4).embeddings_ND
    trained = train_index(INDEX, D, Metric.IP, vectors, seed=0)
    records = [_write_shard(store, before, trained) for before in parent.shards]
    return dataclasses.replace(
        parent,
        version=2,
        parent=1,
        encoder=EncoderRef(name=NOW.name, fingerprint=NOW.fingerprint),
        index=IndexRef(factory=INDEX, trained=_put(store, Store.trained_path(2), trained)),
        shards=tuple(records),
        run="upgrade-2",
        adopted_from=(),
    )


def _write_shard(store: Store, before: ShardRecord, trained: bytes) -> ShardRecord:
    data = shards.encode_table(gallery_table(before.shard))
    columns = shards.parse_shard(data, "shard", dimension=D, side_dimension=4)
    builder = ShardIndexBuilder(trained, INDEX, D, Metric.IP)
    builder.add(columns.ids_N, columns.embeddings_ND)
    record = dataclasses.replace(
        before,
        embeddings=_put(store, Store.shard_path(2, before.shard), data),
        index=_put(store, Store.index_path(2, before.shard), builder.finish()),
        provenance=Provenance.TRANSFORMED,
        counts={"transformed": before.rows},
        input_sha256=before.embeddings.sha256,
    )
    usage = Usage(wall_s=0.5, rows=before.rows)
    store.write_receipt(2, Receipt(run="upgrade-2", record=record, usage=usage, peak_memory_bytes=1, worker="n:1"))
    return record


def _put(store: Store, path: str, data: bytes) -> ObjectRef:
    size, sha256 = objects.write_bytes(store.uri_of(path), data)
    return ObjectRef(path=path, bytes=size, sha256=sha256)
