"""A small run: every pipeline that is asked for does the same work, and ours is not far off the loop.

Ratios only, and only far ones: this runs on shared machines. Figures come from `jobs/bench.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fct_ray.bench.dataset import DatasetSettings, make_dataset
from fct_ray.bench.throughput import ThroughputSettings, run_throughput
from fct_ray.bench.throughput_report import throughput_json, throughput_table
from fct_ray.errors import SettingsError

SMALL = DatasetSettings(rows=30_000, rows_per_shard=3_000, inner=512, num_pairs=100)


@pytest.mark.timeout(300)
@pytest.mark.journey
def test_ours_does_the_loops_work_at_a_rate_that_is_not_far_off(tmp_path: Path) -> None:
    settings = ThroughputSettings(
        directory=str(tmp_path),
        pipelines=("loop", "ours"),
        rounds=1,
        warm_up_rows=0,
        batch_rows=1024,
        storage_bytes=1 << 26,
        data=SMALL,
    )
    result = run_throughput(settings)
    assert set(result.largest_difference) == {"loop", "ours"}
    (loop,), (ours,) = result.of("loop"), result.of("ours")
    assert ours.done.first_row_s is not None
    streaming_s = ours.wall_s - ours.done.first_row_s  # without the start of workers, which is most of it at this size
    assert streaming_s < 5 * loop.wall_s + 5
    assert loop.cpu_s > 0 < ours.cpu_s
    assert min(loop.peak_process_bytes, ours.peak_process_bytes) > 2**27
    text = throughput_json(result).decode()
    assert json.loads(text)["ratio_to_first"]["loop"] == 1.0
    assert str(tmp_path) not in text  # figures are committed; where they were measured is nobody's business
    assert len(throughput_table(result).rows) == 2


def test_the_data_is_made_once_and_is_the_same_for_the_same_settings(tmp_path: Path) -> None:
    settings = DatasetSettings(rows=500, rows_per_shard=200, inner=32, num_pairs=50)
    first = make_dataset(str(tmp_path / "a"), settings)
    again = make_dataset(str(tmp_path / "b"), settings)
    shards = sorted(Path(first.shards_directory).glob("*.parquet"))
    assert len(shards) == 3
    assert all(path.read_bytes() == (Path(again.shards_directory) / path.name).read_bytes() for path in shards)
    assert Path(first.pairs).read_bytes() == Path(again.pairs).read_bytes()
    before = shards[0].stat().st_mtime_ns
    make_dataset(str(tmp_path / "a"), settings)
    assert shards[0].stat().st_mtime_ns == before


def test_an_unknown_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="want some of loop"):
        run_throughput(ThroughputSettings(directory=str(tmp_path), pipelines=("nobody",)))
