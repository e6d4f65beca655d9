"""A small version and its receipts, for tests of decisions about them."""

from __future__ import annotations

import dataclasses

from fct_ray.kinds import Metric, Provenance
from fct_ray.values import EncoderRef, IndexRef, Manifest, ObjectRef, Receipt, ShardRecord, SideInfoRef, Usage

OLD = EncoderRef(name="old", fingerprint="a" * 64)
NEW = EncoderRef(name="new", fingerprint="b" * 64)
SIDE = SideInfoRef(name="simclr", fingerprint="c" * 64, dimension=16)


def parent_record(shard: int) -> ShardRecord:
    return ShardRecord(
        shard=shard,
        embeddings=ObjectRef(path=f"versions/000001/shards/{shard:05d}.parquet", bytes=10, sha256=f"in{shard}"),
        index=None,
        rows=100 + shard,
        id_min=1000 * shard,
        id_max=1000 * shard + 999,
        provenance=Provenance.EMBEDDED,
    )


def parent_manifest(*, num_shards: int = 3, side_info: SideInfoRef | None = SIDE) -> Manifest:
    shards = tuple(parent_record(shard) for shard in range(num_shards))
    return Manifest(
        version=1,
        parent=None,
        created_at="2026-01-01T00:00:00Z",
        num_rows=sum(record.rows for record in shards),
        dimension=32,
        metric=Metric.IP,
        normalized=True,
        encoder=OLD,
        side_info=side_info,
        transformation=None,
        index=None,
        shards=shards,
        gate=None,
        run="embed-1",
    )


def receipt(shard: int, *, run: str = "upgrade-1", **changes: object) -> Receipt:
    before = parent_record(shard)
    record = ShardRecord(
        shard=shard,
        embeddings=ObjectRef(path=f"versions/000002/shards/{shard:05d}.parquet", bytes=20, sha256=f"out{shard}"),
        index=ObjectRef(path=f"versions/000002/index/{shard:05d}.faiss", bytes=30, sha256=f"index{shard}"),
        rows=before.rows,
        id_min=before.id_min,
        id_max=before.id_max,
        provenance=Provenance.TRANSFORMED,
        counts={"transformed": before.rows},
        input_sha256=before.embeddings.sha256,
    )
    return Receipt(
        run=run,
        record=dataclasses.replace(record, **changes),  # type: ignore[arg-type]
        usage=Usage(wall_s=1.5, rows=before.rows, bytes_read=7),
        peak_memory_bytes=1000 + shard,
        worker=f"10.0.0.1:{shard % 2}",
    )


FLAT = IndexRef(factory="Flat")
