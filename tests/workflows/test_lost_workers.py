"""A backfill whose encoder ends its worker on one shard finishes the others, names that one, and resumes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import IncompleteRunError
from fct_ray.storage.store import Store
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill

ENCODERS = "tests.models.own_encoders"


def _settings(directory: Path, texts: list[str], encoder: str, index: str) -> BackfillSettings:
    """Shards of 10 texts each."""
    path = directory / "texts.parquet"
    pq.write_table(pa.table({"id": range(len(texts)), "body": texts}), path)
    return BackfillSettings(
        store=str(directory / "store"),
        source=f"parquet:{path}?text=body",
        encoder=f"{ENCODERS}:{encoder}",
        index=index,
        rows_per_shard=10,
        pool=PoolSettings(min_actors=1, max_actors=1),
    )


@pytest.mark.journey
def test_the_other_shards_are_kept_and_the_same_command_finishes_once_it_is_repaired(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    marker = tmp_path / "broken"
    marker.touch()
    texts = ["text" * (number % 7) for number in range(40)]
    texts[17] = f"exit 0 while {marker}"
    settings = _settings(tmp_path, texts, "ending_encoder", "Flat")
    with pytest.raises(IncompleteRunError) as raised:
        run_backfill(plan_backfill(settings), cluster)
    assert "1 of 4 failed. shard 1: it ended its worker process 3 times (exit code 0)" in str(raised.value)
    store = Store(settings.store)
    assert store.current() is None
    before = {receipt.record.shard: receipt for receipt in store.receipts(1)}
    assert sorted(before) == [0, 2, 3]
    node = ray.get_runtime_context().get_node_id()
    assert {receipt.worker.partition(":")[0] for receipt in before.values()} == {node[:12]}

    marker.unlink()
    published = run_backfill(plan_backfill(settings), cluster).published
    assert published.num_rows == 40
    after = {receipt.record.shard: receipt for receipt in store.receipts(1)}
    assert {shard: after[shard] for shard in before} == before


@pytest.mark.journey
def test_the_index_of_a_backfill_is_trained_in_a_task(
    cluster: ClusterSize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: it was trained in the driver's process, on a head node of 2 CPUs."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("the index is trained in the driver's process")

    monkeypatch.setattr("fct_ray.index.build.train_index", refuse)  # here alone: tasks have processes of their own
    texts = ["text" * (number % 7) for number in range(80)]
    outcome = run_backfill(plan_backfill(_settings(tmp_path, texts, "length_encoder", "IVF2,Flat")), cluster)
    usage = Path(outcome.store.run_uri(outcome.published.run, "usage"))
    parts = {path.name for path in usage.glob("stream-*.json")}
    assert {"stream-sample.json", "stream-training.json"} <= parts
    assert outcome.published.index is not None
    assert outcome.published.index.trained is not None
