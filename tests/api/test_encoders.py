"""Encoders as objects: raw photos through a class of the user's own, in version 1, appended items, pairs and queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fct_ray
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import ModelError
from fct_ray.sources.registry import open_source
from tests.jobs import fashion_encoders


def write_photos(directory: Path, start: int, count: int) -> None:
    """Photos of the quick start's gallery as PNG files, one directory a class."""
    source = open_source("fashion-mnist:gallery")
    assert source.labels_N is not None
    for position in range(start, start + count):
        label = int(source.labels_N[position])
        path = directory / str(label) / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.read(np.array([position])).columns["image"][0].squeeze()).save(path)


@pytest.mark.journey
def test_photos_are_embedded_appended_and_found_by_an_encoder_that_is_an_object(
    tmp_path: Path, cluster: ClusterSize
) -> None:
    write_photos(tmp_path / "photos", 0, 60)
    source = f"images:{tmp_path}/photos"
    encoder, side = fashion_encoders.old(), fashion_encoders.side()
    one_actor = {"min_actors": 1, "max_actors": 1}
    given: dict[str, Any] = {
        "source": source,
        "encoder": encoder,
        "side": side,
        "rows_per_shard": 30,
        "pool": one_actor,
    }
    store = fct_ray.backfill(tmp_path / "store", **given)
    assert (store.version, store.manifest.num_rows, store.manifest.dimension) == (1, 60, encoder.dimension)
    assert fct_ray.backfill(store.uri, **given).version == 1
    write_photos(tmp_path / "later", 60, 5)
    assert store.append(source=f"images:{tmp_path}/later", encoder=encoder, side=side, pool=one_actor) == 2
    assert store.manifest.num_rows == 65
    photo = np.asarray(Image.open(next((tmp_path / "later").rglob("61.png"))))[None, :, :, None]
    scores_QK, ids_QK = store.searcher(encoder).search(encoder.encode({"image": np.repeat(photo, 3, axis=3)}), k=2)
    assert scores_QK[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert ids_QK[0, 0] != ids_QK[0, 1]


def test_an_object_that_is_no_encoder_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    write_photos(tmp_path, 0, 1)
    with pytest.raises(ModelError, match="without"):
        fct_ray.backfill(tmp_path / "store", source=f"images:{tmp_path}", encoder=object())  # type: ignore[arg-type]
