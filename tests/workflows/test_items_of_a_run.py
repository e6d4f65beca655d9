"""A run reads the items that its driver listed, by name and never by place, whatever is uploaded or replaced meanwhile."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.items_dataset import items_dataset
from fct_ray.errors import IncompleteRunError, SourceError
from fct_ray.kinds import OnBadRow
from fct_ray.sources.folder import path_id
from fct_ray.sources.registry import open_source
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillPlan, BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.item_positions import places_of
from tests.galleries import read_version

pytestmark = pytest.mark.journey

ONE_ACTOR = PoolSettings(min_actors=1, max_actors=1)
GREYS = {f"{number}.png": number * 10 for number in range(1, 9)}


def put(uri: str, data: bytes) -> None:
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(path, data)


def delete(uri: str) -> None:
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.rm(path)


def photo(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), grey).save(buffer, "PNG")
    return buffer.getvalue()


def upload(uri: str, greys: dict[str, int]) -> None:
    """Photos of one grey each, so that a vector tells which photo it was made from."""
    for name, grey in greys.items():
        put(f"{uri}/{name}", photo(grey))


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty directory, or an empty prefix on a real S3 server."""
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("s3_uri"))


def settings(place: str, **changes: object) -> BackfillSettings:
    chosen = BackfillSettings(
        store=f"{place}/store",
        source=f"images:{place}/photos",
        encoder="tests.models.own_encoders:mean_colour",
        rows_per_shard=3,
        pool=ONE_ACTOR,
    )
    return dataclasses.replace(chosen, **changes)  # type: ignore[arg-type]


def greys_by_id(store: Store, manifest: Manifest) -> dict[int, int]:
    table = read_version(store, manifest)
    greys = np.stack(table["embedding"].to_numpy())[:, 0].astype(int)
    return dict(zip(table["id"].to_pylist(), greys.tolist(), strict=True))


def expected(greys: dict[str, int]) -> dict[int, int]:
    return {path_id(name): grey for name, grey in greys.items()}


def interrupt_after_one_shard(plan: BackfillPlan, cluster: ClusterSize) -> None:
    """Leave what a run leaves that was killed when its first shard was finished."""
    with pytest.raises(IncompleteRunError):
        run_backfill(dataclasses.replace(plan, starts=plan.starts[:1]), cluster)
    assert [receipt.record.shard for receipt in plan.store.ledger(plan.run)] == [0]


def test_uploads_while_a_backfill_starts_and_before_it_resumes_are_not_part_of_it_and_move_no_other_photo(
    cluster: ClusterSize, place: str
) -> None:
    upload(f"{place}/photos", GREYS)
    plan = plan_backfill(settings(place))
    upload(f"{place}/photos", {"0.png": 200})
    interrupt_after_one_shard(plan, cluster)
    upload(f"{place}/photos", {"00.png": 201})
    delete(f"{place}/photos/1.png")  # its shard is finished
    resumed = plan_backfill(settings(place))
    assert (resumed.run, resumed.finished) == (plan.run, None)
    published = run_backfill(resumed, cluster).published
    assert greys_by_id(plan.store, published) == expected(GREYS)
    later = plan_backfill(settings(place))
    assert (later.finished, later.items.source.num_items, later.run != plan.run) == (None, 9, True)


def test_a_photo_that_was_replaced_in_mid_run_is_refused_by_name_and_taken_as_it_is_when_the_run_resumes(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    upload(f"{tmp_path}/photos", GREYS)
    plan = plan_backfill(settings(str(tmp_path)))
    interrupt_after_one_shard(plan, cluster)
    upload(f"{tmp_path}/photos", {"7.png": 77})
    with pytest.raises(SourceError, match=r"7\.png was changed after the items were listed"):
        run_backfill(plan, cluster)
    assert plan.store.current() is None
    resumed = plan_backfill(settings(str(tmp_path)))
    assert resumed.run == plan.run
    published = run_backfill(resumed, cluster).published
    assert greys_by_id(plan.store, published) == expected(GREYS | {"7.png": 77})
    assert plan_backfill(settings(str(tmp_path))).finished == published, "the same command finds that it is done"


def test_an_interrupted_run_says_which_objects_that_it_needs_are_gone_or_changed_and_how_to_begin_anew(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    upload(f"{tmp_path}/photos", GREYS)
    chosen = settings(str(tmp_path))
    interrupt_after_one_shard(plan_backfill(chosen), cluster)
    for name in ("2.png", "5.png", "8.png"):  # the first one's shard is finished
        delete(f"{tmp_path}/photos/{name}")
    with pytest.raises(SourceError, match=r"2 are gone \(5\.png, 8\.png\).*--restart"):
        plan_backfill(chosen)
    assert plan_backfill(dataclasses.replace(chosen, restart=True)).items.source.num_items == 5
    careful = plan_backfill(dataclasses.replace(chosen, on_bad_row=OnBadRow.QUARANTINE))
    assert careful.items.source.num_items == 5, "other settings, another run"


def write_texts(path: Path, ids: range) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(ids), "text": ["x" * number for number in ids]}), path, row_group_size=2)


def test_rows_of_parquet_objects_are_read_from_the_objects_that_were_listed_and_no_other_version(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    write_texts(tmp_path / "texts" / "1.parquet", range(1, 6))
    write_texts(tmp_path / "texts" / "2.parquet", range(6, 10))
    chosen = settings(
        str(tmp_path), source=f"parquet:{tmp_path}/texts?text=text", encoder="tests.models.own_encoders:length_encoder"
    )
    plan = plan_backfill(chosen)
    write_texts(tmp_path / "texts" / "0.parquet", range(100, 104))
    interrupt_after_one_shard(plan, cluster)
    shutil.copy2(tmp_path / "texts" / "2.parquet", tmp_path / "kept")
    write_texts(tmp_path / "texts" / "2.parquet", range(60, 64))
    with pytest.raises(SourceError, match=r"2\.parquet was changed after the items were listed"):
        run_backfill(plan, cluster)
    with pytest.raises(SourceError, match=r"1 were changed \(2\.parquet\); put them back"):
        plan_backfill(chosen)
    shutil.copy2(tmp_path / "kept", tmp_path / "texts" / "2.parquet")
    published = run_backfill(plan_backfill(chosen), cluster).published
    assert greys_by_id(plan.store, published) == {number: number for number in range(1, 10)}


def test_an_append_takes_the_items_that_it_began_with_when_it_resumes_and_the_next_one_takes_the_rest(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    upload(f"{tmp_path}/photos", {"5.png": 50})
    plan = plan_backfill(settings(str(tmp_path)))
    run_backfill(plan, cluster)
    upload(f"{tmp_path}/photos", GREYS)
    put(f"{tmp_path}/photos/9.png", b"no photo")
    chosen = AppendSettings(
        store=plan.store.uri,
        source=plan.settings.source,
        encoder=plan.settings.encoder,
        rows_per_shard=3,
        pool=ONE_ACTOR,
    )
    with pytest.raises(SourceError, match=r"9\.png"):
        append(chosen, cluster)
    upload(
        f"{tmp_path}/photos", {"0.png": 200, "9.png": 90}
    )  # a new one that sorts first, and the damaged one repaired
    resumed = append(chosen, cluster)
    assert resumed.changed == 8
    assert greys_by_id(plan.store, resumed.published) == expected(GREYS | {"9.png": 90})
    rest = append(chosen, cluster)
    assert rest.changed == 1
    assert greys_by_id(plan.store, rest.published) == expected(GREYS | {"9.png": 90, "0.png": 200})
    assert append(chosen, cluster).changed == 0


def test_vectors_of_chosen_items_are_their_own_whatever_is_uploaded_and_a_replaced_one_is_refused(
    cluster: ClusterSize, place: str
) -> None:
    upload(f"{place}/photos", GREYS)
    source = open_source(f"images:{place}/photos")
    wanted = expected(GREYS)
    positions_P = places_of(pa.array(sorted(wanted)), source, None)
    upload(f"{place}/photos", {"0.png": 200})
    encoders = ("tests.models.own_encoders:mean_colour",)
    pairs = encode_items(source, encoders, positions_P, pool=ONE_ACTOR, size=cluster, describe="pairs")
    assert pairs.ids_N.tolist() == sorted(wanted)
    assert pairs.embeddings[0][:, 0].astype(int).tolist() == [wanted[number] for number in sorted(wanted)]
    upload(f"{place}/photos", {"3.png": 33})
    with pytest.raises(SourceError, match=r"3\.png was changed after the items were listed"):
        encode_items(source, encoders, positions_P, pool=ONE_ACTOR, size=cluster, describe="pairs")


def test_photos_that_are_fitted_on_are_those_that_were_listed_with_their_own_labels(
    cluster: ClusterSize, tmp_path: Path
) -> None:
    upload(f"{tmp_path}/photos", {"a/1.png": 10, "b/2.png": 20, "b/3.png": 30})
    dataset = items_dataset(open_source(f"images:{tmp_path}/photos"), seed=0)
    upload(f"{tmp_path}/photos", {"0/0.png": 200})
    rows = sorted((int(row["image"][0, 0, 0]), int(row["label"])) for row in dataset.iter_rows())
    assert rows == [(10, 0), (20, 1), (30, 1)]
