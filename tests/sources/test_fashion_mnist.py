"""The real data set, as its paper describes it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fct_ray.errors import SourceError
from fct_ray.sources import fashion_mnist
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source


def labels_of(source: Source) -> np.ndarray:
    assert source.labels_N is not None
    return source.labels_N


def test_the_splits_are_the_whole_data_set_once() -> None:
    splits = [open_source(f"fashion-mnist:{split}") for split in ("fit", "gallery", "query")]
    assert [split.num_items for split in splits] == [30_000, 30_000, 10_000]
    assert np.array_equal(np.sort(np.concatenate([split.ids_N for split in splits])), np.arange(70_000))
    # 7,000 photos of each class (Xiao et al., 2017), 1,000 of them for testing
    counts = [np.bincount(labels_of(split), minlength=10) for split in splits]
    assert np.sum(counts, axis=0).tolist() == [7000] * 10
    assert counts[2].tolist() == [1000] * 10


def test_reading_gives_photos_with_their_own_ids_and_labels_in_the_order_asked_for() -> None:
    source = open_source("fashion-mnist:query")
    items = source.read(np.array([5, 0, 9_999]))
    assert items.ids_N.tolist() == [60_005, 60_000, 69_999]
    assert items.columns["image"].shape == (3, 28, 28, 1)
    assert items.columns["image"].dtype == np.uint8
    assert items.carried["label"].tolist() == labels_of(source)[[5, 0, 9_999]].tolist()
    assert items.carried["label"][1] == 9, "the first test photo is an ankle boot"
    assert np.array_equal(items.columns["image"][0], source.read(np.array([5])).columns["image"][0])
    assert items.bytes_read == 3 * 28 * 28


def test_classes_and_limit_keep_some_photos_and_change_none() -> None:
    whole, some = open_source("fashion-mnist:gallery"), open_source("fashion-mnist:gallery?classes=0-4&limit=500")
    assert some.num_items == 500
    assert set(labels_of(some).tolist()) == {0, 1, 2, 3, 4}
    positions = np.searchsorted(whole.ids_N, some.ids_N)
    assert np.array_equal(labels_of(whole)[positions], labels_of(some))
    assert np.array_equal(whole.read(positions[:9]).columns["image"], some.read(np.arange(9)).columns["image"])


def test_an_opened_source_can_cross_to_another_process() -> None:
    source = open_source("fashion-mnist:query?limit=3")
    assert np.array_equal(pickle.loads(pickle.dumps(source)).ids_N, source.ids_N)  # noqa: S301 (our own bytes)


def test_without_any_way_to_the_data_the_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCT_RAY_DATA", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIRECTORY", tmp_path / "nowhere")
    monkeypatch.setattr(fashion_mnist, "_DOWNLOAD", "raise OSError('no route to host')")
    with pytest.raises(SourceError) as refused:
        fashion_mnist.find_or_fetch()
    for part in (
        "torchvision's downloader: OSError: no route to host",
        "apt-get",
        "dataset-fashion-mnist",
        "FCT_RAY_DATA",
    ):
        assert part in str(refused.value)
