"""Shards at a time: every number of them is measured, and the place is left as empty as it was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct_ray.bench.dataset import DatasetSettings
from fct_ray.bench.overlap import OverlapSettings, overlap_table, run_overlap
from fct_ray.errors import SettingsError
from fct_ray.storage import objects


@pytest.mark.slow
def test_every_number_of_shards_at_a_time_is_measured_on_s3(tmp_path: Path, s3_uri: str) -> None:
    data = DatasetSettings(rows=4_000, rows_per_shard=500, inner=64, num_pairs=10)
    settings = OverlapSettings(storage=s3_uri, directory=str(tmp_path), rounds=1, data=data)
    one, two = run_overlap(settings)
    assert (one.shards_per_actor, two.shards_per_actor) == (1, 2)
    assert min(one.rows_per_s, two.rows_per_s) > 0
    assert min(one.peak_worker_bytes, two.peak_worker_bytes) > 2**27
    assert len(overlap_table([one, two], settings).rows) == 2
    assert objects.list_uris(s3_uri) == []


def test_a_place_that_is_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(SettingsError, match="something lies there"):
        run_overlap(OverlapSettings(storage=str(tmp_path)))
    assert (tmp_path / "precious").exists()


def test_nothing_to_try_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="want 1 or more"):
        run_overlap(OverlapSettings(storage=str(tmp_path / "new"), shards_per_actor=(0,)))
