"""Other views of items: cut out of them, or from a source of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import SettingsError
from fct_ray.sources.items import Items
from fct_ray.sources.registry import open_source
from fct_ray.sources.views import Crop, Span, Uncut, open_views

IMAGES, TEXTS = "fashion-mnist:gallery", "parquet:/nowhere?text=body"


def photos(images: Any, ids: list[int] | None = None) -> Items:
    return Items(ids_N=np.arange(len(images)) if ids is None else np.array(ids), columns={"image": images})


def places(height: int, width: int) -> npt.NDArray[np.uint8]:
    """An image whose red is the row and whose green is the column of a pixel, in shares of 255."""
    rows, columns = np.meshgrid(np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij")
    return np.stack([rows, columns, np.zeros((height, width))], axis=2).astype(np.uint8)


def test_a_crop_keeps_about_half_of_an_image_at_another_place_for_each_id() -> None:
    cropped = Crop()(photos(np.stack([places(100, 80)] * 50))).columns["image"]
    assert cropped.shape == (50, 100, 80, 3)
    spans_N2 = np.ptp(cropped[..., :2].astype(np.float64), axis=(1, 2)) / 255
    area_N = spans_N2.prod(axis=1)
    assert 0.36 < area_N.min() < 0.44
    assert 0.54 < area_N.max() < 0.62
    assert np.unique(cropped[:, 0, 0, :2], axis=0).shape[0] > 40
    shown_N2 = cropped[:, 0, 0, :2].astype(np.float64) / 255 + spans_N2
    assert shown_N2.max() < 1.02


def test_the_same_id_gives_the_same_crop_whatever_stands_beside_it() -> None:
    image = places(40, 40)
    alone = Crop()(photos(image[None], [-7])).columns["image"][0]
    among = Crop()(photos(np.stack([image, image]), [3, -7])).columns["image"]
    np.testing.assert_array_equal(among[1], alone)
    assert (among[0] != alone).any()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crops_of_images_of_unequal_sizes_stay_as_large_as_they_were(channels: int) -> None:
    images = [np.full((size, size + 3, channels), 9, np.uint8) for size in (1, 5, 28)]
    cropped = Crop()(photos(images)).columns["image"]
    assert [image.shape for image in cropped] == [image.shape for image in images]
    assert all((image == 9).all() for image in cropped)


def test_a_span_is_what_follows_and_texts_that_end_before_are_left_out() -> None:
    texts = ["title " + "what the index does not hold of it", "short", "title and a rest", "title" + " " * 60]
    items = Items(ids_N=np.array([4, 5, 6, 7]), columns={"text": texts}, carried={"label": np.array([1, 2, 3, 4])})
    seen = Span(chars=6)(items)
    assert seen.ids_N.tolist() == [4]
    assert seen.columns == {"text": ["what the index does not hold of it"]}
    assert seen.carried["label"].tolist() == [1]
    assert len(Span(chars=500)(items).ids_N) == 0


def test_views_of_another_source_are_as_they_are_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    table = {"id": [1, 2, 3], "title": ["vi", "  ", "an editor"]}
    pq.write_table(pa.table(table), tmp_path / "titles.parquet")
    views = open_views(f"parquet:{tmp_path}?text=title", None)
    seen = views.cut(open_source(views.source).read(np.arange(3)))
    assert seen.ids_N.tolist() == [1, 3]
    assert seen.columns == {"text": ["vi", "an editor"]}


def test_a_photo_of_a_real_source_is_cropped_and_stays_grey() -> None:
    views = open_views("crop", IMAGES)
    items = open_source(views.source).read(np.arange(5))
    seen = views.cut(items)
    assert seen.columns["image"].shape == items.columns["image"].shape == (5, 28, 28, 1)
    assert (seen.columns["image"] != items.columns["image"]).any()


@pytest.mark.parametrize("cut", [Crop(), Span(chars=9), Uncut()])
def test_cuts_go_to_other_processes(cut: object) -> None:
    assert pickle.loads(pickle.dumps(cut)) == cut  # noqa: S301 (our own bytes)


@pytest.mark.parametrize(
    ("spec", "source", "said"),
    [
        ("blurred", IMAGES, r"unknown name 'blurred'; want crop, span:CHARS, or a source.*parquet"),
        ("crop", None, "no --source"),
        ("crop:3", IMAGES, "crop takes no '3'"),
        ("crop", TEXTS, "of kind image; --source parquet:/nowhere.* has text: want span:CHARS"),
        ("span:50", IMAGES, "of kind text; --source fashion-mnist:gallery has image: want crop"),
        ("span:", TEXTS, "'' is no number of characters; want span:CHARS"),
        ("span:0", TEXTS, "'0' is no number"),
        (IMAGES, IMAGES, "is --source itself"),
        ("parquet:/nowhere?texts=title", None, "unknown option 'texts'"),
    ],
)
def test_what_is_no_view_is_refused_and_nothing_is_listed(spec: str, source: str | None, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_views(spec, source)
