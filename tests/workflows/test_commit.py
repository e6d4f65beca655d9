"""The commit protocol: the same command again finds itself done, and a resumed one goes on with the same objects."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.shards.model_directory import open_encoder
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.delete import DeleteSettings, delete
from fct_ray.workflows.side_information import side_information_work
from tests.galleries import read_version, write_ids, write_rows
from tests.workflows.living import START, Living

ENCODERS = "tests.jobs.fashion_encoders"
ONE_ACTOR = PoolSettings(min_actors=1, max_actors=1)


def _backfill(store: Store) -> BackfillSettings:
    return BackfillSettings(
        store=store.uri,
        source="fashion-mnist:gallery?limit=300",
        encoder=f"{ENCODERS}:old",
        side=f"{ENCODERS}:side",
        rows_per_shard=150,
        pool=ONE_ACTOR,
    )


@pytest.mark.journey
def test_the_same_backfill_again_does_nothing_also_after_the_gallery_lived(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    first = run_backfill(plan_backfill(_backfill(store)), cluster)
    again = run_backfill(plan_backfill(_backfill(store)), cluster)
    assert (again.published, again.done_before, store.versions()) == (first.published, True, [1])
    assert again.stages["stream"].rows == 300
    gone = write_ids(tmp_path / "gone.parquet", np.array([first.published.shards[0].id_min]))
    delete(DeleteSettings(store=store.uri, ids=gone))
    grown = AppendSettings(
        store=store.uri,
        encoder=f"{ENCODERS}:old",
        side=f"{ENCODERS}:side",
        source="fashion-mnist:gallery?limit=400",
        rows_per_shard=150,
        pool=ONE_ACTOR,
    )
    grown_version = append(grown, cluster).published
    again = run_backfill(plan_backfill(_backfill(store)), cluster)
    assert (again.published.version, store.manifest()) == (1, grown_version)
    other = dataclasses.replace(_backfill(store), rows_per_shard=100)
    anew = run_backfill(plan_backfill(other), cluster)
    assert (anew.published.version, anew.published.parent) == (grown_version.version + 1, grown_version.version)
    work = side_information_work(store, grown_version, f"{ENCODERS}:side")
    assert work is not None, "rows that were deleted from, and rows that were appended, lead back to their embedding"
    assert work.embedding.flops == pytest.approx(open_encoder(f"{ENCODERS}:side").flops_per_item * 401)


def test_the_same_adoption_again_does_nothing(living: Living) -> None:
    settings = AdoptSettings(store=living.store.uri, embeddings=str(living.photos), encoder="old-api")
    first = living.store.manifest()
    again = run_adopt(plan_adopt(settings))
    assert (again.published, again.done_before, living.store.versions()) == (first, True, [1])
    living.append(START, START + 10)
    assert run_adopt(plan_adopt(settings)).done_before
    assert living.store.versions() == [1, 2]


def test_adopting_files_that_were_written_again_is_another_adoption(living: Living, tmp_path: Path) -> None:
    photos = shutil.copytree(living.photos, tmp_path / "photos")
    store = Store(str(tmp_path / "of its own"))
    settings = AdoptSettings(store=store.uri, embeddings=str(photos), encoder="old-api")
    run_adopt(plan_adopt(settings))
    write_rows(photos / "0.parquet", living.vectors, np.arange(START, START + 50))
    again = run_adopt(plan_adopt(settings))
    assert (again.done_before, again.published.version) == (False, 2)
    assert again.published.shards[0].rows == 50


def test_an_append_that_was_killed_and_whose_files_were_renamed_loses_and_doubles_nothing(living: Living) -> None:
    directory = living.directory / "new"
    for name, start in (("a", START), ("b", START + 20)):
        write_rows(directory / f"{name}.parquet", living.vectors, np.arange(start, start + 20))
    settings = AppendSettings(store=living.store.uri, encoder="old-api", embeddings=str(directory))
    before = (Path(living.store.uri) / "CURRENT.json").read_bytes()
    whole = append(settings, living.size).published
    expected = read_version(living.store, whole)
    version = Path(living.store.uri) / living.store.version_path(2)  # as it is when a kill came after the first shard
    (Path(living.store.uri) / "CURRENT.json").write_bytes(before)
    (version / "manifest.json").unlink()
    (version / f"receipts/{whole.shards[-1].shard:05d}.json").unlink()
    shutil.move(directory / "a.parquet", directory / "c.parquet")
    resumed = append(settings, living.size).published
    assert resumed.version == 2
    assert read_version(living.store, resumed).equals(expected)
