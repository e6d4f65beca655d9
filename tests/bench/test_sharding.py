"""Sharding costs no recall: the same neighbours whichever way the shards are searched."""

from __future__ import annotations

import pytest

from fct_ray.bench.sharding import WAYS, ShardingSettings, run_sharding, sharding_table


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "HNSW16"])
def test_shards_have_the_recall_of_one_index(factory: str) -> None:
    settings = ShardingSettings(rows=4_000, shards=4, dimension=16, factories=(factory,), queries=50)
    one, merged, apart = run_sharding(settings)
    assert (one.way, merged.way, apart.way) == WAYS
    assert min(merged.recall, apart.recall) >= one.recall - 0.02
    assert one.recall > 0.8
    assert len(sharding_table([one, merged, apart], settings).rows) == 3
