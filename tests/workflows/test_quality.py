"""Retrieval quality of galleries whose labels are names, as galleries of other systems have them, or numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import SettingsError
from fct_ray.kinds import Method
from fct_ray.sources.registry import open_source
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.quality import Galleries, Quality, QueryEncoders, measure_quality
from tests.fashion_vectors import Vectors, fixed_size_list

NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
ENCODER = "tests.jobs.fashion_encoders:old"
NUM_GALLERY, NUM_QUERIES = 600, 100


def adopt(directory: Path, vectors: Vectors, labels: pa.Array) -> Store:
    """A store of the first photos by the old encoder, with these labels."""
    columns = {
        "id": vectors.ids_N[:NUM_GALLERY],
        "embedding": fixed_size_list(vectors.old_ND[:NUM_GALLERY]),
        "label": labels,
    }
    directory.mkdir()
    pq.write_table(pa.table(columns), directory / "part.parquet")
    settings = AdoptSettings(
        store=str(directory / "store"), embeddings=str(directory / "part.parquet"), encoder=ENCODER
    )
    run_adopt(plan_adopt(settings))
    return Store(settings.store)


def write_queries(path: Path) -> str:
    """Photos of the query split as a Parquet source whose labels are names, of the last five classes only."""
    source = open_source(f"fashion-mnist:query?classes=5-9&limit={NUM_QUERIES}")
    items = source.read(np.arange(NUM_QUERIES))
    pictures = []
    for image in items.columns["image"]:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    names = [NAMES[label] for label in items.carried["label"]]
    pq.write_table(pa.table({"id": items.ids_N, "image": pictures, "name": names}), path)
    return f"parquet:{path}?image=image&label=name"


def quality_of(store: Store, query_source: str, size: ClusterSize, old_uri: str | None = ENCODER) -> Quality:
    manifest = store.manifest()
    return measure_quality(
        Galleries(store=store, old=manifest, upgraded=manifest, backfill_store=store, backfill=manifest),
        QueryEncoders(old_uri=old_uri, new_uri=ENCODER, side_uri=None, why_not_old="is only a name"),
        {},
        query_source=query_source,
        max_gallery=NUM_GALLERY,
        max_queries=NUM_QUERIES,
        seed=0,
        pool=PoolSettings(min_actors=1, max_actors=1),
        size=size,
    )


def test_labels_that_are_names_judge_as_the_numbers_of_the_same_classes_do(
    cluster: ClusterSize, vectors: Vectors, tmp_path: Path
) -> None:
    """A store with a `label` column of strings ended `compare` with a ValueError after both runs were paid."""
    numbers = vectors.labels_N[:NUM_GALLERY]
    by_number = quality_of(
        adopt(tmp_path / "numbers", vectors, pa.array(numbers)),
        f"fashion-mnist:query?classes=5-9&limit={NUM_QUERIES}",
        cluster,
    )
    named = adopt(tmp_path / "names", vectors, pa.array([NAMES[label] for label in numbers]))
    by_name = quality_of(named, write_queries(tmp_path / "queries.parquet"), cluster)
    assert by_number.notes == ()
    gone = quality_of(named, write_queries(tmp_path / "queries.parquet"), cluster, old_uri=None)
    assert [row.method for row in gone.rows] == [row.method for row in by_name.rows if row.method is not Method.OLD_OLD]
    assert gone.rows == tuple(row for row in by_name.rows if row.method is not Method.OLD_OLD)
    assert gone.recovered == {}
    (said,) = gone.notes
    assert said.startswith("not measured: what old queries find")
    assert said.endswith("the old encoder is only a name")
    (first, *_), (second, *_) = by_number.rows, by_name.rows
    assert first.method is Method.OLD_OLD
    assert 0.3 < first.map < 1
    assert (second.top1, second.map) == pytest.approx(
        (first.top1, first.map), abs=0.02
    )  # photos went through PNG as RGB
    assert set(by_name.query_labels_Q.tolist()) == set(NAMES[5:])
    with pytest.raises(SettingsError, match="are numbers, those of version 1 are names such as"):
        quality_of(named, f"fashion-mnist:query?limit={NUM_QUERIES}", cluster)


def test_a_gallery_without_labels_for_every_row_is_refused(
    cluster: ClusterSize, vectors: Vectors, tmp_path: Path
) -> None:
    labels = pa.array([None, *vectors.labels_N[1:NUM_GALLERY].tolist()])
    store = adopt(tmp_path / "holes", vectors, labels)
    with pytest.raises(SettingsError, match="no `label` column of numbers or strings for every row"):
        quality_of(store, f"fashion-mnist:query?limit={NUM_QUERIES}", cluster)
