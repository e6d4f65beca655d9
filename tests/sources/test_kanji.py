"""Glyphs: the character list, rendering, missing glyphs, splits.

Rendering is tested on DejaVu Sans of matplotlib, which is installed wherever these tests run and has no kanji at all;
tests of the rendered data set run where `python -m fct_ray.sources.kanji` was run.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources import kanji
from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.glyphs import jis_level_1, render
from fct_ray.sources.kanji_typefaces import PACKAGES, SPLITS, TYPEFACES
from fct_ray.sources.registry import open_source

DEJAVU = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

rendered = pytest.mark.skipif(
    not (data_directory() / "kanji" / kanji.RENDERED).is_file(),
    reason="the glyphs (a download of 253 MB) are not here: python -m fct_ray.sources.kanji",
)


def test_the_characters_are_those_of_jis_level_1_in_an_order_that_never_changes() -> None:
    characters = jis_level_1()
    assert len(set(characters)) == 2965
    # rows 16 to 47 of JIS X 0208 begin with U+4E9C and end with U+8155
    assert {"\u4e9c", "\u8155"} <= set(characters)
    assert all("\u4e00" <= character <= "\u9fff" for character in characters)
    assert "".join(characters[:5]) == "\u5ea7\u8466\u543e\u7dd1\u71d0"


def test_a_glyph_is_drawn_whole_in_the_middle() -> None:
    images = render(DEJAVU, 0, ["o", "W", "M", "@"])
    assert images.shape == (4, 32, 32)
    assert images.dtype == np.uint8
    for image in images:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.max() > 200
        for ink in (rows, columns):
            assert abs(ink[0] - (31 - ink[-1])) <= 3
            assert ink[0] >= 1


def test_what_a_typeface_lacks_is_blank_not_a_box() -> None:
    lacking = render(DEJAVU, 0, [*jis_level_1()[:20], "A"])
    assert not lacking[:20].any(), "all 20 are drawn as the same box"
    assert lacking[20].any()


def test_a_file_that_is_no_font_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    with pytest.raises(SourceError, match=r"broken\.ttf face 0"):
        render(tmp_path / "broken.ttf", 0, ["a"])


def test_the_table_of_typefaces_has_25_to_fit_8_for_the_gallery_and_6_for_queries() -> None:
    assert [sum(typeface.split == split for typeface in TYPEFACES) for split in SPLITS] == [25, 8, 6]
    assert len({typeface.name for typeface in TYPEFACES}) == len(TYPEFACES)
    assert len({(typeface.file, typeface.face) for typeface in TYPEFACES}) == len(TYPEFACES)
    assert all(package.startswith("fonts-") for package in PACKAGES)


def test_without_rendered_glyphs_the_error_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCT_RAY_DATA", str(tmp_path))
    kanji._rendered.cache_clear()
    with pytest.raises(SourceError, match=r"python -m fct_ray\.sources\.kanji"):
        kanji.open_spec("kanji:fit", "fit", {})


@rendered
def test_splits_hold_every_glyph_once() -> None:
    splits = [open_source(f"kanji:{split}") for split in SPLITS]
    num_items = [split.num_items for split in splits]
    # 39 x 2,965 less one blank (kouzan-brush) and nine shared drawings (oradano-mincho), all to fit on
    assert num_items == [25 * 2965 - 10, 8 * 2965, 6 * 2965]
    assert np.unique(np.concatenate([split.ids_N for split in splits])).size == sum(num_items)


@rendered
def test_reading_gives_glyphs_of_the_chosen_characters_and_typefaces() -> None:
    source = open_source("kanji:gallery?characters=10-12&typefaces=konatu,hanazono")
    assert source.labels_N is not None
    assert source.labels_N.tolist() == [10, 10, 11, 11, 12, 12]
    items = source.read(np.array([3, 0]))
    assert items.columns["image"].shape == (2, 32, 32, 1)
    assert items.carried["typeface"] == ["hanazono", "konatu"]
    assert items.carried["label"].tolist() == [11, 10]
    assert np.unique(items.columns["image"]).size > 50, "grey ink, not a box or a blank"


@rendered
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kanji:fit?typefaces=seto", "no typeface 'seto' in fit"),
        ("kanji:fit?characters=0-2965", "FIRST-LAST within 0-2964"),
        ("kanji:train", "unknown split 'train'"),
    ],
)
def test_unknown_typefaces_characters_and_splits_are_refused(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_source(spec)
