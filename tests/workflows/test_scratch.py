"""What a verb makes anew each time it may delete; what it did not make, never."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fct_ray.errors import LeaseHeldError, ModelError, SettingsError
from fct_ray.storage import leases
from fct_ray.storage.store import Store
from fct_ray.workflows.compare import CompareSettings, run_compare
from fct_ray.workflows.scratch import scratch_places
from tests.jobs.fashion_encoders import new
from tests.workflows.living import Living


def test_the_second_run_empties_what_the_first_one_made_and_nothing_beside_it(tmp_path: Path) -> None:
    """Reports of the quick start lay in the store that its second run made anew: they went with it."""
    for number in range(2):
        with scratch_places(str(tmp_path), "compare", ("upgrade", "backfill"), "--work-dir") as (upgrade, backfill):
            assert not Path(upgrade).exists()
            assert not Path(backfill).exists()
            Path(upgrade).mkdir()
            (Path(upgrade) / "left").write_text("over")
            (tmp_path / "reports" / str(number)).mkdir(parents=True)
    assert (tmp_path / "upgrade" / "left").exists()
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"0", "1"}


def test_on_s3_too(s3_uri: str) -> None:
    from fct_ray.storage import objects

    for _ in range(2):
        with scratch_places(s3_uri, "compare", ("upgrade",), "--work-dir") as (upgrade,):
            assert not objects.exists(f"{upgrade}/left")
            objects.write_bytes(f"{upgrade}/left", b"over")
    objects.write_bytes(f"{s3_uri}/other/upgrade/mine", b"precious")
    with (
        pytest.raises(SettingsError, match="was not made by `compare`"),
        scratch_places(f"{s3_uri}/other", "compare", ("upgrade",), "--work-dir"),
    ):
        pass
    assert objects.read_bytes(f"{s3_uri}/other/upgrade/mine") == b"precious"


def test_two_at_once_do_not_empty_each_others_places(tmp_path: Path) -> None:
    with scratch_places(str(tmp_path), "compare", ("upgrade",), "--work-dir") as (upgrade,):
        Path(upgrade).mkdir()
        with (
            pytest.raises(LeaseHeldError, match="compare in"),
            scratch_places(str(tmp_path), "compare", ("upgrade",), "--work-dir"),
        ):
            pass
        assert Path(upgrade).exists()


@pytest.mark.parametrize("name", ["upgrade", "backfill"])
def test_compare_refuses_a_work_directory_with_a_store_that_is_not_its_own(
    living: Living, tmp_path: Path, name: str
) -> None:
    """`compare --work-dir X` deleted X/upgrade and X/backfill, whatever they were."""
    mine = tmp_path / "work" / name / "versions" / "000001" / "manifest.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    settings = CompareSettings(
        store=living.store.uri, encoder="tests.jobs.fashion_encoders:new", source="fashion-mnist:gallery",
        queries="fashion-mnist:query", old_encoder="tests.jobs.fashion_encoders:old", work_dir=str(tmp_path / "work"),
    )  # fmt: skip
    with pytest.raises(SettingsError, match=f"work/{name} is there already and was not made by `compare`.*--work-dir"):
        run_compare(settings, living.size, None)
    assert mine.read_text() == "precious"


def test_compare_refuses_queries_without_labels_of_the_gallery_before_it_starts(living: Living, tmp_path: Path) -> None:
    settings = CompareSettings(
        store=living.store.uri, encoder="tests.jobs.fashion_encoders:new", source="fashion-mnist:gallery",
        queries=f"images:{_pictures(tmp_path / 'pictures')}", old_encoder="tests.jobs.fashion_encoders:old",
    )  # fmt: skip
    with pytest.raises(SettingsError, match="has no labels"):
        run_compare(settings, living.size, None)
    assert leases.live_leases(Store(living.store.uri)) == {}


def looks_at_leases() -> object:
    """A factory that lists who holds the store, and refuses to go on once somebody does."""
    held = leases.live_leases(Store(os.environ["FCT_RAY_TEST_STORE"]))
    if held:
        raise ModelError("; ".join(f"{name} holds {lease.versions}" for name, lease in held.items()))
    return new()


def test_in_its_default_place_compare_holds_its_run_and_the_version_that_it_reads(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lease a collection in mid-run deleted `runs/compare-.../scratch`, and the version that it refers to."""
    monkeypatch.setenv("FCT_RAY_TEST_STORE", living.store.uri)
    settings = CompareSettings(
        store=living.store.uri, encoder="tests.workflows.test_scratch:looks_at_leases", source="fashion-mnist:gallery",
        queries="fashion-mnist:query", old_encoder="tests.jobs.fashion_encoders:old",
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"compare-[0-9a-f]{12} holds \(1,\)"):
        run_compare(settings, living.size, None)
    assert leases.live_leases(Store(living.store.uri)) == {}


def _pictures(directory: Path) -> Path:
    from PIL import Image

    directory.mkdir()
    Image.new("L", (28, 28)).save(directory / "one.png")
    return directory
