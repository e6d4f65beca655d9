"""Everything on S3: raw items, models, store, runs, reports, on a real server; and the same bytes as on local disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fct_ray.sources.registry import open_source
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from tests.jobs.conftest import run_job

FIT = ("--fit.backbone", "small_cnn-4", "--fit.epochs", "1", "--fit.batch-size", "64")


@pytest.mark.timeout(900)
def test_fit_embed_upgrade_and_search_with_everything_on_s3(s3_uri: str, tmp_path: Path) -> None:
    photos, models, store = f"{s3_uri}/photos", f"{s3_uri}/models", f"{s3_uri}/store"
    _upload_photos(photos, 1200)
    source = f"images:{photos}"
    uris = {}
    for name, dimension in (("old", 16), ("new", 32)):
        run_job("fit", name, "--source", source, "--output", models, "--fit.dimension", dimension, *FIT)
    for uri in objects.list_uris(models):
        if uri.endswith("/model.json"):
            directory = uri.removesuffix("/model.json")
            uris[directory.rsplit("/", 1)[-1].split("-")[0]] = directory
    run_job(
        "embed", "backfill", "--store", store, "--source", source, "--encoder", uris["old"], "--side", uris["new"],
        "--rows-per-shard", 400,
    )  # fmt: skip
    done = run_job(
        "upgrade", "--store", store, "--source", source, "--encoder", uris["new"], "--num-pairs", 600,
        "--fit.inner", 64, "--fit.epochs", 10, "--index", "Flat",
    )  # fmt: skip
    report_uri = done.stdout.strip().splitlines()[-1].removeprefix("report: ")
    assert report_uri.startswith("s3://")
    report = json.loads(objects.read_bytes(report_uri))
    assert (report["version"], report["rows"]) == (2, 1200)
    manifest = Store(store).manifest()
    assert [record.rows for record in manifest.shards] == [400, 400, 400]
    from fct_ray.engine.model_store import open_encoder
    from fct_ray.engine.searching import open_searcher

    items = open_source(source).read(np.arange(20))
    scores, found = open_searcher(store, uris["new"]).search(open_encoder(uris["new"]).encode(items.columns), 5)
    assert found.shape == (20, 5)
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    own = [items.ids_N[query] in found[query] for query in range(20)]
    assert np.mean(own) > 0.3, "photos should find themselves among 1,200 far above chance (0.4 %)"


def _upload_photos(prefix: str, count: int) -> None:
    source = open_source("fashion-mnist:fit")
    items, labels = source.read(np.arange(count)), source.labels_N
    assert labels is not None
    for number in range(count):
        buffer = io.BytesIO()
        Image.fromarray(items.columns["image"][number, :, :, 0]).save(buffer, format="PNG")
        objects.write_bytes(f"{prefix}/class-{labels[number]}/{number:05d}.png", buffer.getvalue())
