"""The grammar of source specs, and what is refused."""

from __future__ import annotations

import pytest

from fct_ray.errors import SettingsError
from fct_ray.sources.registry import int_option, open_source, range_option


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mnist:fit", "unknown name 'mnist'; want one of fashion-mnist, images, kanji, parquet"),
        ("fashion-mnist:train", "unknown split 'train'; want one of fit, gallery, query"),
        ("fashion-mnist:fit?class=3", "unknown option 'class'; fashion-mnist knows classes, limit"),
        ("fashion-mnist:fit?limit=-1", "option limit is '-1'; want a whole number"),
        ("fashion-mnist:fit?classes=4-0", "option classes is '4-0'; want FIRST-LAST"),
        ("images", "has no location"),
        ("parquet:items", "one of image and text"),
        ("parquet:items?image=a&text=b", "one of image and text"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_is_known(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_source(spec)


def test_options_have_defaults_and_ranges_include_both_ends() -> None:
    assert int_option("s", {}, "limit", 7) == 7
    assert int_option("s", {"limit": "3"}, "limit", 7) == 3
    assert list(range_option("s", {"classes": "2-4"}, "classes", range(10))) == [2, 3, 4]
    assert range_option("s", {}, "classes", range(10)) == range(10)
