"""GPU seconds of encoders reach the bill of whatever embeds: a backfill, pairs, an append."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.plan.cost import busy_compute_s
from fct_ray.sources.registry import open_source
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.chosen_items import encode_items

ON_GPU = "tests.models.own_encoders:on_gpu"
ONE_ACTOR = PoolSettings(min_actors=1, max_actors=1)


def _write_texts(path: Path, ids: range) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(ids), "body": ["text" * (number % 7) for number in ids]}), path)


def test_a_backfill_an_append_and_pairs_count_the_gpu_seconds_of_their_encoder(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    """Seen: a full backfill on GPUs reported 0 GPU seconds, and so no saving and no break-even."""
    _write_texts(tmp_path / "texts" / "1.parquet", range(20))
    store, source = str(tmp_path / "store"), f"parquet:{tmp_path / 'texts'}?text=body"
    chosen = BackfillSettings(store=store, source=source, encoder=ON_GPU, rows_per_shard=10, pool=ONE_ACTOR)
    outcome = run_backfill(plan_backfill(chosen), cluster)
    stream = outcome.stages["stream"]
    assert stream.busy_gpu_s > 0
    assert busy_compute_s(stream) > stream.busy_cpu_s, "what savings compare"
    assert all(receipt.usage.busy_gpu_s > 0 for receipt in outcome.store.receipts(1))
    opened = open_source(source)
    pairs = encode_items(opened, (ON_GPU,), np.arange(5), pool=ONE_ACTOR, size=cluster, describe="pairs")
    assert pairs.usage.busy_gpu_s > 0
    _write_texts(tmp_path / "texts" / "2.parquet", range(20, 30))
    grown = append(AppendSettings(store=store, encoder=ON_GPU, source=source, pool=ONE_ACTOR), cluster)
    assert grown.stages["stream"].busy_gpu_s > 0
