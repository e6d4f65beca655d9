"""The main job on embeddings of real photos, from Parquet files to a searched index."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from fct_ray.storage.store import Store
from tests.fashion_vectors import Vectors, fixed_size_list
from tests.galleries import linear_h
from tests.jobs.conftest import report_of, run_job

pytestmark = pytest.mark.journey

Upgraded = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def upgraded(undisturbed: Path) -> Upgraded:
    """An adopted store, upgraded by pairs and an h that is given, and its report (`test_s3` fits h on the way)."""
    (report,) = undisturbed.glob("runs/upgrade-*/report/report.json")
    return undisturbed, json.loads(report.read_text())


def test_a_foreign_reader_finds_every_row_once_with_its_other_columns(upgraded: Upgraded, vectors: Vectors) -> None:
    """Pyarrow and faiss alone: no line of this package."""
    store, _ = upgraded
    current = json.loads((store / "CURRENT.json").read_text())
    raw = (store / current["manifest"]).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == current["sha256"]
    manifest = json.loads(raw)
    assert (manifest["version"], manifest["num_rows"], manifest["dimension"]) == (2, 6000, 48)
    ids, labels, embeddings, indexes = [], [], [], []
    for shard in manifest["shards"]:
        table = pq.read_table(store / shard["embeddings"]["path"])
        assert (
            hashlib.sha256((store / shard["embeddings"]["path"]).read_bytes()).hexdigest()
            == shard["embeddings"]["sha256"]
        )
        ids.append(table["id"].to_numpy())
        labels.append(table["label"].to_numpy())
        embeddings.append(np.stack(table["embedding"].to_numpy()))
        assert table.schema.field("side_info").type.list_size == 24
        indexes.append(faiss.read_index(str(store / shard["index"]["path"])))
    order = np.argsort(np.concatenate(ids))
    np.testing.assert_array_equal(np.concatenate(ids)[order], vectors.ids_N)
    np.testing.assert_array_equal(np.concatenate(labels)[order], vectors.labels_N)
    assert np.concatenate(embeddings).shape == (6000, 48)
    assert sum(index.ntotal for index in indexes) == 6000
    scores, found = indexes[0].search(embeddings[0][:5], 1)
    np.testing.assert_array_equal(found[:, 0], ids[0][:5])
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-4)


def test_the_report_counts_every_stage_and_says_what_was_recovered(upgraded: Upgraded) -> None:
    _, report = upgraded
    assert report["job"] == "upgrade"
    assert report["rows"] == 6000
    assert {"pairs", "gate", "stream", "verify", "publish"} == set(report["stages"])
    assert report["stages"]["stream"]["rows"] == 6000
    assert report["stages"]["stream"]["busy_cpu_s"] > 0
    assert report["gate"]["passed"] is True
    assert report["forecast"]["wall_s"] > 0
    rows = {row["method"]: row for row in report["compatibility"]}
    assert rows["direct" if "direct" in rows else "old_old"]["map"] < rows["new_new"]["map"]
    assert report["gate"]["chosen"] == "linear_side"
    assert report["recovered_share"]["linear_side"]["map"] > 0.5


def test_search_finds_what_brute_force_on_the_true_new_embeddings_mostly_finds(
    upgraded: Upgraded,
    vectors: Vectors,
    tmp_path: Path,
) -> None:
    store, _ = upgraded
    queries, output = tmp_path / "q.parquet", tmp_path / "found.parquet"
    _write_queries(queries, vectors.ids_N[:50], vectors.new_NW[:50])
    run_job("search", "--store", store, "--queries", queries, "--encoder", "new-api", "--k", 10, "--output", output)
    table = pq.read_table(output)
    assert table.column_names == ["query", "rank", "id", "score"]
    found = {int(query): set() for query in vectors.ids_N[:50]}  # type: ignore[var-annotated]
    for query, near in zip(table["query"].to_pylist(), table["id"].to_pylist(), strict=True):
        found[query].add(near)
    truth = np.argsort(-(vectors.new_NW[:50] @ vectors.new_NW.T), axis=1)[:, :50]
    hits = [len(found[int(vectors.ids_N[q])] & set(vectors.ids_N[truth[q]].tolist())) / 10 for q in range(50)]
    assert np.mean(hits) > 0.5, "the upgraded index must find neighbours of the true new space"


def test_search_refuses_queries_of_the_old_encoder(upgraded: Upgraded, vectors: Vectors, tmp_path: Path) -> None:
    store, _ = upgraded
    queries = tmp_path / "q.parquet"
    _write_queries(queries, vectors.ids_N[:5], vectors.old_ND[:5])
    done = run_job(
        "search", "--store", store, "--queries", queries, "--encoder", "old-api", "--output", tmp_path / "o", expect=2
    )
    assert "old-api" in done.stderr
    assert "new-api" in done.stderr


def test_running_the_same_command_again_finds_the_run_finished(upgraded: Upgraded, by_h: tuple[str, ...]) -> None:
    store, first = upgraded
    before = (store / "CURRENT.json").read_bytes()
    done = run_job("upgrade", "--store", store, *by_h)
    assert (store / "CURRENT.json").read_bytes() == before
    again = report_of(done)
    assert (again["version"], again["run"]) == (2, first["run"])
    assert again["stages"]["stream"]["flops"] == first["stages"]["stream"]["flops"]


def test_a_harmful_transformation_is_refused_and_nothing_is_written(
    shop: Path, vectors: Vectors, tmp_path: Path
) -> None:
    """New embeddings shuffled among the items: no map can be right, so doing nothing is better."""
    store = shop
    shuffled = np.random.default_rng(1).permutation(len(vectors.ids_N))
    nonsense = dataclasses.replace(vectors, new_NW=vectors.new_NW[shuffled])
    _write_queries(tmp_path / "p.parquet", vectors.ids_N[:1500], nonsense.new_NW[:1500])
    h = linear_h(Store(str(store)), nonsense, "new-api", tmp_path / "models")
    done = run_job(
        "upgrade", "--store", store, "--pairs", tmp_path / "p.parquet", "--encoder", "new-api",
        "--transformation", h, expect=3,
    )  # fmt: skip
    assert "nothing was published" in done.stderr
    assert "Refused: " in done.stderr
    assert json.loads((store / "CURRENT.json").read_text())["version"] == 1
    assert not (store / "versions/000002").exists()
    assert not (store / "models").exists()
    report = json.loads(next(store.glob("runs/upgrade-*/report/report.json")).read_text())
    assert report["gate"]["passed"] is False
    assert report["version"] is None
    assert "stream" not in report["stages"]


def _write_queries(path: Path, ids: np.ndarray, matrix: np.ndarray) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"id": ids, "embedding": fixed_size_list(matrix)}), path)
