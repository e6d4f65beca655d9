"""The items of a run in its store: workers read only the part that their shard needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fct_ray.shards.listed_items import ListedItems, listing_to_parquet
from fct_ray.sources.listing import ListedSource, Listing, whole_objects


def test_parts_of_a_kept_listing_are_what_the_listing_has_there(tmp_path: Path) -> None:
    num_objects = 40_000  # several row groups
    num_rows = np.random.default_rng(0).integers(1, 4, num_objects).tolist()
    spans = whole_objects([f"{number:05d}" for number in range(num_objects)], num_rows, ["m"] * num_objects, num_rows)
    whole = Listing(source=ListedSource(spec="x", label_names=("é", "b")), spans=spans)
    path = tmp_path / "items.parquet"
    path.write_bytes(listing_to_parquet(whole))
    kept, num_items = ListedItems(str(path)), whole.num_items
    assert kept.source == whole.source
    assert kept.whole().fingerprint == whole.fingerprint
    for start, stop in ((0, 1), (0, num_items), (num_items - 1, num_items), (32_000, 50_001), (30_000, 30_003)):
        assert kept.part(start, stop).fingerprint == whole.take(np.arange(start, stop)).fingerprint
