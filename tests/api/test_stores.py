"""The Python API on a real Ray cluster: adopt, plan, upgrade, search, edit, verify, roll back, collect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fct_ray
from fct_ray.errors import DataError, EncoderMismatchError, SettingsError
from tests.api.conftest import Gallery
from tests.fashion_vectors import fixed_size_list

ONE_ACTOR = {"min_actors": 1, "max_actors": 1}


@pytest.mark.journey
def test_an_upgrade_from_arrays_to_a_searcher_and_back(gallery: Gallery) -> None:
    store, vectors = gallery.store, gallery.vectors
    plan = store.plan_upgrade(
        encoder="api-v2",
        pairs=gallery.pairs,
        transformation=gallery.h,
        index="IVF4,Flat",
        accept="provisional",
        precision="float32",
        pool=ONE_ACTOR,
    )
    assert store.version == 1  # planning changes nothing
    html = plan._repr_html_()
    for said in (
        "900 rows in 2 shards",
        "api-v1 (6 dimensions)",
        "api-v2 (48 dimensions",
        "IVF4,Flat",
        "forecast",
        "$",
    ):
        assert said in html

    result = plan.run()

    assert (result.version, store.version) == (2, 2)
    assert result.gate is not None
    assert result.gate.passed
    assert {"pairs", "gate", "stream", "verify", "publish"} <= set(result.stages)
    assert "Gate: passed" in result._repr_html_()
    assert json.loads(Path(result.save_report()).read_bytes())["version"] == 2
    assert json.loads(Path(result.save_report(gallery.directory / "report")).read_bytes())["job"] == "upgrade"
    scores_QK, ids_QK = store.searcher("api-v2").search(vectors.new_NW[:20].tolist(), k=5, nprobe=4)
    h = fct_ray.load_transformation(str(result.transformation))
    transformed_NW = h(vectors.old_ND[:900], vectors.side_NS[:900])
    exact_QN = vectors.new_NW[:20] @ transformed_NW.T
    np.testing.assert_array_equal(ids_QK[:, 0], vectors.ids_N[exact_QN.argmax(axis=1)])
    np.testing.assert_allclose(scores_QK[:, 0], exact_QN.max(axis=1), rtol=1e-4)
    assert str(result.transformation).startswith(f"{store.uri}/models/")
    assert "published" in store._repr_html_()
    assert len(repr(store.manifest)) < 3000  # a notebook shows it on one screen, without every shard
    with pytest.raises(EncoderMismatchError):
        store.searcher("api-v1")
    again = store.plan_upgrade(
        encoder="api-v2",
        pairs=gallery.pairs,
        transformation=gallery.h,
        index="IVF4,Flat",
        accept="provisional",
        precision="float32",
        pool=ONE_ACTOR,
    )
    assert "done already: version 2" in again._repr_html_()
    assert again.run().version == 2
    assert not store.verify(recompute=1).problems
    assert store.roll_back() == 1
    assert store.searcher("api-v1").search(vectors.old_ND[:1], k=1)[1][0, 0] in vectors.ids_N
    assert store.roll_back(2) == 2


def test_a_refused_upgrade_is_a_result_that_says_why(gallery: Gallery) -> None:
    ids_N, new_NW = gallery.pairs
    shuffled_NW = np.random.default_rng(1).permutation(new_NW)  # each id with the vector of another photo
    plan = gallery.store.plan_upgrade(encoder="api-v2", pairs=(ids_N, shuffled_NW), transformation=gallery.h)
    result = plan.run()
    assert result.version is None
    assert gallery.store.version == 1
    assert result.gate is not None
    assert not result.gate.passed
    assert "refused" in repr(result)
    assert "REFUSED" in result._repr_html_()


def test_items_in_memory_are_appended_with_all_their_columns_and_deleted_by_id(gallery: Gallery) -> None:
    store, vectors = gallery.store, gallery.vectors
    new = pa.table(
        {
            "id": vectors.ids_N[900:],
            "embedding": fixed_size_list(vectors.old_ND[900:]),
            "side_info": fixed_size_list(vectors.side_NS[900:]),
            "label": vectors.labels_N[900:],
        }
    )
    assert store.append(embeddings=new, encoder="api-v1") == 2
    assert store.manifest.num_rows == 1000
    found = store.searcher("api-v1").search(vectors.old_ND[900:905], k=1)[1]
    np.testing.assert_array_equal(found[:, 0], vectors.ids_N[900:905])
    assert not list(Path(store.uri).glob("runs/in-memory-*/*"))  # what was written on the way is gone
    with pytest.raises(DataError, match="in the gallery already"):
        store.append(embeddings=new.slice(0, 5), encoder="api-v1")
    assert store.delete(vectors.ids_N[900:]) == 3
    assert store.manifest.num_rows == 900
    with pytest.raises(SettingsError, match="whole numbers"):
        store.delete([30000.5])


def test_collecting_garbage_only_shows_what_would_go_until_it_is_told_otherwise(gallery: Gallery) -> None:
    store = gallery.store
    for item in gallery.vectors.ids_N[:3]:
        store.delete(item)
    assert store.collect_garbage(keep=1).versions == (1, 2)
    assert [manifest.version for manifest in store.history()] == [1, 2, 3, 4]
    assert store.collect_garbage(keep=1, dry_run=False).versions == (1, 2)
    assert [manifest.version for manifest in store.history()] == [3, 4]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nunm_pairs": 5}, "did you mean num_pairs"),
        ({"gate": {"shares": 0.5}}, "did you mean gate.share"),
        ({"num_pairs": "many"}, "num_pairs is 'many'"),
        ({"precision": "float8"}, "precision is 'float8'"),
        ({"fit": {"epochs": "ten"}}, "fit.epochs is 'ten'"),
    ],
)
def test_a_misspelt_or_absurd_setting_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        fct_ray.Store("/nowhere").plan_upgrade(encoder="api-v2", pairs="pairs.parquet", **settings)


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"metric is 'hamming'.*'ip', 'l2' or 'cosine'"):
        fct_ray.adopt(tmp_path / "store", embeddings=tmp_path, encoder="api-v1", metric="hamming")
