"""h alone: what is measured is there for every precision and batch size, and is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct_ray.bench.dataset import DatasetSettings
from fct_ray.bench.one_actor import ActorRun, OneActorSettings, one_actor_table, run_one_actor
from fct_ray.errors import SettingsError
from fct_ray.kinds import Precision

SMALL = DatasetSettings(rows=2_000, rows_per_shard=2_000, inner=64, num_pairs=10)


def test_every_precision_and_batch_size_is_measured_against_its_roof(tmp_path: Path) -> None:
    settings = OneActorSettings(directory=str(tmp_path), data=SMALL, batch_rows=(500, 1000), rounds=1)
    runs = run_one_actor(settings)
    assert [(run.precision, run.batch_rows) for run in runs] == [
        (precision, batch) for precision in Precision for batch in (500, 1000)
    ]
    assert runs[0].largest_difference < 1e-5 < runs[-1].largest_difference < 2e-2
    assert all(run.rows_per_s > 0 and run.roof_rows_per_s > 0 for run in runs)
    assert len(one_actor_table(runs, settings).rows) == 4


def test_the_slower_of_chip_and_link_is_the_roof() -> None:
    run = ActorRun(
        precision=Precision.FLOAT32, batch_rows=1, rows_per_s=1.0, chip_rows_per_s=10.0, link_rows_per_s=4.0,
        largest_difference=0.0,
    )  # fmt: skip
    assert run.roof_rows_per_s == 4.0


def test_no_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rounds is 0; want 1 or more"):
        run_one_actor(OneActorSettings(directory=str(tmp_path), rounds=0))
