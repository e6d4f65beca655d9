"""How many shards an actor should work on at a time on a storage: the streaming stage with 1, 2, ... of them, in turns.

Owns: those runs. Measured from the first shard's start to the last one's end, so that starting workers is not in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fct_ray.bench import dataset
from fct_ray.bench.dataset import DatasetSettings, make_dataset
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSettings, connected
from fct_ray.errors import SettingsError
from fct_ray.report.quantities import bytes_text, ratio
from fct_ray.report.text_table import Table
from fct_ray.settings import CheckedSettings, Count
from fct_ray.shards.model_directory import load_model
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.values import Receipt
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed


@dataclass(frozen=True, kw_only=True)
class OverlapSettings(CheckedSettings):
    """How many shards an actor should work on at a time, on a storage."""

    storage: str = ".data/bench/overlap"
    """Where shards and store lie while this runs: a directory or s3:// prefix of its own, deleted at the end."""
    directory: str = ".data/bench"
    """Where the data is made (local)."""
    shards_per_actor: tuple[Count, ...] = (1, 2)
    """Shards at a time; each number is tried."""
    rounds: Count = 3
    """Measured rounds after one that is thrown away; the median is reported."""
    threads: Count = 2
    """Cores."""
    batch_rows: Count = 1024
    """Rows that h transforms at a time."""
    data: DatasetSettings = field(default_factory=lambda: DatasetSettings(inner=512))
    """The data; a narrower h, so that storage shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """The streaming stage with this many shards at a time, median over the rounds."""

    shards_per_actor: int
    rows_per_s: float
    peak_worker_bytes: int


def run_overlap(settings: OverlapSettings) -> list[Overlap]:
    """Copy the data to the storage, adopt it, stream it with every number of shards at a time, delete all of it.

    Raises:
        SettingsError: something lies at `storage` already, or there is nothing to try.
    """
    if min(settings.rounds, len(settings.shards_per_actor), *settings.shards_per_actor) < 1:
        raise SettingsError(f"{settings}: want at least 1 round and 1 shard at a time")
    storage = objects.absolute(settings.storage)
    if objects.list_names(storage):
        raise SettingsError(
            f"--storage {storage}: something lies there; want a place of its own, it is deleted at the end"
        )
    made = make_dataset(settings.directory, settings.data)
    try:
        for path in sorted(Path(made.shards_directory).iterdir()):
            objects.write_bytes(objects.join(storage, f"in/{path.name}"), path.read_bytes())
        return _run(settings, Store(objects.join(storage, "store")), objects.join(storage, "in"), made.transformation)
    finally:
        objects.delete_tree(storage)


def overlap_table(results: Sequence[Overlap], settings: OverlapSettings) -> Table:
    """One line per number of shards at a time, against the first."""
    return Table(
        name="overlap",
        title=f"Streaming stage on {settings.storage}, {settings.threads} actors",
        sentence=(
            f"{settings.data.rows:,} rows in shards of {settings.data.rows_per_shard:,}, h of inner width "
            f"{settings.data.inner:,}; from the first shard's start to the last one's end, median of {settings.rounds}."
        ),
        header=("shards at a time", "rows/s", "against the first", "peak worker"),
        rows=tuple(
            (
                str(one.shards_per_actor),
                f"{one.rows_per_s:,.0f}",
                ratio(one.rows_per_s / results[0].rows_per_s),
                bytes_text(one.peak_worker_bytes),
            )
            for one in results
        ),
    )


def _run(settings: OverlapSettings, store: Store, embeddings: str, transformation: str) -> list[Overlap]:
    runs: dict[int, list[list[Receipt]]] = {number: [] for number in settings.shards_per_actor}
    with connected(ClusterSettings(num_cpus=settings.threads)) as size:
        run_adopt(
            plan_adopt(
                AdoptSettings(store=store.uri, embeddings=embeddings, encoder=dataset.OLD_NAME, side=dataset.SIDE_NAME)
            )
        )
        parent, document = store.manifest(), load_model(transformation).document
        for number in range(settings.rounds + 1):
            for at_a_time in settings.shards_per_actor:
                stream = TransformStream(
                    store=store,
                    parent=parent,
                    run=f"bench-{number}-{at_a_time}",
                    transformation_uri=transformation,
                    use_side=True,
                    dimension=document.dimension,
                    metric=document.metric,
                    index_factory="Flat",
                    seed=0,
                    batch_rows=settings.batch_rows,
                )
                _, _, receipts = stream_transformed(
                    stream, parent, pool=PoolSettings(shards_per_actor=at_a_time), size=size
                )
                runs[at_a_time] += [receipts] if number else []
    return [
        Overlap(
            shards_per_actor=at_a_time,
            rows_per_s=parent.num_rows / statistics.median(_span_s(receipts) for receipts in rounds),
            peak_worker_bytes=max(receipt.peak_memory_bytes for receipts in rounds for receipt in receipts),
        )
        for at_a_time, rounds in runs.items()
    ]


def _span_s(receipts: Sequence[Receipt]) -> float:
    return max(one.ended_at for one in receipts) - min(one.started_at for one in receipts)
