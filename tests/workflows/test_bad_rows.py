"""With --on-bad-row quarantine a few bad rows stop nothing: in = out + quarantined, and each is listed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, SourceError
from fct_ray.kinds import Accept, OnBadRow
from fct_ray.report.outcomes import embed_report
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.fashion_vectors import Vectors
from tests.galleries import linear_h, read_version, write_pairs, write_rows

BAD_NAN, BAD_ID = 100, 700  # rows of the gallery


@pytest.fixture
def damaged(tmp_path: Path, vectors: Vectors) -> Path:
    """Three files of 500 rows; a NaN in the first, a null id in the second, the third is whole."""
    for shard, rows in enumerate(np.array_split(np.arange(1500), 3)):
        path = write_rows(tmp_path / "in" / f"{shard}.parquet", vectors, rows)
        table = pq.read_table(path)
        if shard == 0:
            values = table["embedding"].combine_chunks().flatten().to_numpy().copy()
            values[BAD_NAN * 6 + 2] = np.nan
            table = table.set_column(1, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(values), 6))
        if shard == 1:
            ids = [None if row == BAD_ID else int(vectors.ids_N[row]) for row in rows]
            table = table.set_column(0, "id", pa.array(ids, pa.int64()))
        pq.write_table(table, path)
    return tmp_path / "in"


def _adopt(damaged: Path, tmp_path: Path, **changes: object) -> Store:
    settings = AdoptSettings(store=str(tmp_path / "store"), embeddings=str(damaged), encoder="old-api", **changes)  # type: ignore[arg-type]
    run_adopt(plan_adopt(settings))
    return Store(settings.store)


def test_adopting_copies_only_the_objects_with_bad_rows_and_lists_those(
    cluster: ClusterSize, damaged: Path, tmp_path: Path, vectors: Vectors
) -> None:
    with pytest.raises(
        DataError, match=r"0\.parquet: row 100: 'embedding' holds nan|1\.parquet: row 200: the id is null"
    ):
        _adopt(damaged, tmp_path)
    store = _adopt(damaged, tmp_path, on_bad_row=OnBadRow.QUARANTINE)
    manifest = store.manifest()
    assert [(record.rows, record.quarantined) for record in manifest.shards] == [(499, 1), (499, 1), (500, 0)]
    assert ["://" in record.embeddings.path for record in manifest.shards] == [False, False, True]
    good = np.delete(np.arange(1500), [BAD_NAN, BAD_ID])
    np.testing.assert_array_equal(read_version(store, manifest)["id"].to_numpy(), np.sort(vectors.ids_N[good]))
    listed = pq.read_table(store.run_uri(manifest.run, "quarantine.parquet")).to_pylist()
    assert [(row["shard"], row["row"], row["id"]) for row in listed] == [
        (0, 100, int(vectors.ids_N[BAD_NAN])),
        (1, 200, None),
    ]
    assert verify_store(VerifySettings(store=store.uri)).problems == ()


def test_more_bad_rows_than_allowed_stop_the_run_and_publish_nothing(
    cluster: ClusterSize, damaged: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"2 bad rows, want at most 1 \(--max-bad-rows\)"):
        _adopt(damaged, tmp_path, on_bad_row=OnBadRow.QUARANTINE, max_bad_rows=1)
    with pytest.raises(DataError, match=r"2 bad rows, want at most 0 \(--max-bad-rows\)"):
        _adopt(damaged, tmp_path, on_bad_row=OnBadRow.QUARANTINE, max_bad_rows=0)
    assert Store(str(tmp_path / "store")).current() is None


@pytest.mark.journey
def test_appending_and_upgrading_leave_bad_rows_out_and_account_for_them(
    cluster: ClusterSize, damaged: Path, tmp_path: Path, vectors: Vectors
) -> None:
    for shard, rows in enumerate(np.array_split(np.arange(2000, 4000), 2)):
        write_rows(tmp_path / "whole" / f"{shard}.parquet", vectors, rows)
    store = Store(str(tmp_path / "store"))
    run_adopt(plan_adopt(AdoptSettings(store=store.uri, embeddings=str(tmp_path / "whole"), encoder="old-api")))
    settings = AppendSettings(
        store=store.uri, encoder="old-api", embeddings=str(damaged), on_bad_row=OnBadRow.QUARANTINE
    )
    appended = append(settings, cluster)
    assert (appended.changed, appended.num_bad_rows, appended.published.num_rows) == (1498, 2, 3498)

    # A NaN in a stored shard, as a foreign writer of the format may leave it, with hashes that agree.
    (tmp_path / "whole" / "0.parquet").unlink()
    path = write_rows(tmp_path / "whole" / "0.parquet", vectors, np.arange(2000, 3000))
    table = pq.read_table(path)
    values = table["embedding"].combine_chunks().flatten().to_numpy().copy()
    values[7 * 6] = np.inf
    foreign = Store(str(tmp_path / "foreign"))
    run_adopt(plan_adopt(AdoptSettings(store=foreign.uri, embeddings=str(tmp_path / "whole"), encoder="old-api")))
    pq.write_table(table.set_column(1, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(values), 6)), path)
    _agree(foreign, path)
    upgrade = UpgradeSettings(
        store=foreign.uri,
        encoder="new-api",
        pairs=str(write_pairs(tmp_path / "pairs.parquet", vectors, np.arange(2001, 4000, 4))),
        transformation=linear_h(foreign, vectors, "new-api", tmp_path / "models"),
        accept=Accept.PROVISIONAL,
        on_bad_row=OnBadRow.QUARANTINE,
        pool=PoolSettings(max_actors=1, min_actors=1),
    )
    outcome = run_upgrade(plan_upgrade(upgrade, None, None), cluster)
    assert outcome.published is not None
    assert outcome.num_bad_rows == 1
    assert [(record.rows, record.quarantined) for record in outcome.published.shards] == [(999, 1), (1000, 0)]
    assert verify_store(VerifySettings(store=foreign.uri)).problems == ()


def _agree(store: Store, path: Path) -> None:
    """Make manifest and CURRENT agree with a changed first object."""
    import dataclasses

    from fct_ray.storage import documents

    manifest, current = store.manifest(), store.current()
    assert current is not None
    data = path.read_bytes()
    first = manifest.shards[0]
    ref = dataclasses.replace(first.embeddings, bytes=len(data), sha256=documents.sha256_hex(data))
    changed = dataclasses.replace(manifest, shards=(dataclasses.replace(first, embeddings=ref), *manifest.shards[1:]))
    manifest_data = documents.dump(changed)
    Path(store.uri_of(current.manifest)).write_bytes(manifest_data)
    pointer = dataclasses.replace(current, sha256=documents.sha256_hex(manifest_data))
    Path(store.uri_of("CURRENT.json")).write_bytes(documents.dump(pointer))


@pytest.mark.journey
def test_an_image_that_cannot_be_read_is_left_out_of_a_backfill(cluster: ClusterSize, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(buffer, format="PNG")
        path = tmp_path / "photos" / f"class-{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue()[:-40] if number == 5 else buffer.getvalue())
    for name, data in {
        "class-0/empty.jpg": b"",
        "class-0/notes.txt": b"no photo",
        "class-1/photo": buffer.getvalue(),
    }.items():
        (tmp_path / "photos" / name).write_bytes(data)
    settings = BackfillSettings(
        store=str(tmp_path / "store"),
        source=f"images:{tmp_path / 'photos'}",
        encoder="tests.models.own_encoders:mean_colour",
        rows_per_shard=4,
        pool=PoolSettings(max_actors=1, min_actors=1),
    )
    with pytest.raises(SourceError, match=r"05\.png|empty\.jpg"):
        run_backfill(plan_backfill(settings), cluster)
    import dataclasses

    careful = dataclasses.replace(settings, on_bad_row=OnBadRow.QUARANTINE)
    outcome = run_backfill(plan_backfill(careful), cluster)
    assert (outcome.published.num_rows, outcome.num_bad_rows) == (12, 2)
    listed = pq.read_table(outcome.store.run_uri(outcome.published.run, "quarantine.parquet")).to_pylist()
    reasons = sorted(row["reason"] for row in listed)
    assert reasons[0].endswith(
        "class-0/empty.jpg has 0 bytes; want an image: replace the image or leave it out of the source"
    )
    assert "05.png" in reasons[1]
    said = f"images:{tmp_path / 'photos'}: 1 file is no image and was left out: .txt 1"
    assert said in embed_report(outcome, careful, pricing_of(PricingSettings())).notes
    again = run_backfill(plan_backfill(careful), cluster)
    assert (again.done_before, again.notes) == (True, (said,))
