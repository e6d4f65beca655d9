"""Encoders by name through the workflows: an endpoint and a text model embed a gallery; then the endpoint is switched off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import EncoderMismatchError, ModelError, SettingsError
from fct_ray.kinds import OnBadRow
from fct_ray.models.by_name.registry import open_named
from fct_ray.report.json_file import document
from fct_ray.report.markdown_file import render_markdown
from fct_ray.report.outcomes import embed_report
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.shards.model_directory import embedding_encoder
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.compare import CompareSettings, _old_encoder
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.embeddings_server import embeddings_server
from tests.galleries import read_version
from tests.models.by_name.packaged_models import minilm_directory

MINILM = f"sentence-transformers:{minilm_directory()}"
NUM_TEXTS = 24
TEXTS = [f"package {number}: {what}" for number, what in enumerate(("a web server", "a mail reader", "a game") * 8)]
KEY = "key-4fzT9vQm2LxW8rKd"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("texts")
    pq.write_table(pa.table({"id": np.arange(NUM_TEXTS) * 10, "body": TEXTS}), directory / "texts.parquet")
    return directory


def test_a_gallery_is_embedded_by_an_endpoint_and_lives_on_when_that_is_switched_off(
    cluster: ClusterSize, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """all-MiniLM-L6-v2 behind an endpoint, and the same model by name as side-information."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # the driver has one; the server wants none and the workers know none
    behind = open_named(MINILM)
    with embeddings_server(lambda texts: behind.encode({"text": list(texts)})) as server:
        name = f"openai:minilm@{server.url}?dimensions=384&batch=8"
        settings = BackfillSettings(
            store=str(tmp_path / "store"),
            source=f"parquet:{texts}?text=body",
            encoder=name,
            side=MINILM,
            rows_per_shard=12,
            on_bad_row=OnBadRow.QUARANTINE,
            pool=PoolSettings(min_actors=1, max_actors=1),
        )
        server.faults = ["500", "nan"]
        outcome = run_backfill(plan_backfill(settings), cluster)
    assert (outcome.published.num_rows, outcome.num_bad_rows) == (NUM_TEXTS - 1, 1)
    rows = read_version(outcome.store, outcome.published)
    kept = [TEXTS[item // 10] for item in rows["id"].to_pylist()]
    wanted = behind.encode({"text": kept})
    np.testing.assert_allclose(np.stack(rows["embedding"].to_numpy(zero_copy_only=False)), wanted, atol=1e-5)
    np.testing.assert_allclose(np.stack(rows["side_info"].to_numpy(zero_copy_only=False)), wanted, atol=1e-5)

    report = embed_report(outcome, settings, pricing_of(PricingSettings()))
    tokens = sum(len(text.split()) for text in TEXTS)
    assert document(report)["stages"]["stream"]["tokens"] == tokens
    assert "tokens" in render_markdown(report)
    assert not any(KEY.encode() in path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())

    _goes_on_without(name, outcome.store, tmp_path, wanted, cluster)


def _goes_on_without(
    name: str, store: Store, tmp_path: Path, vectors_ND: npt.NDArray[np.float32], size: ClusterSize
) -> None:
    """The endpoint does not answer any more. To know which one it is needs no connection."""
    assert embedding_encoder(name.replace("dimensions=384&", ""), None).uri is None
    scores_QK, _ = open_searcher(store.uri, name).search(vectors_ND[:1], k=1)
    assert scores_QK[0, 0] == pytest.approx(1, abs=1e-5)
    with pytest.raises(EncoderMismatchError):
        open_searcher(store.uri, "openai:other@http://127.0.0.1:9/v1")
    columns = {"id": [7_000], "embedding": pa.FixedSizeListArray.from_arrays(vectors_ND[0], 384)}
    columns["side_info"] = columns["embedding"]
    pq.write_table(pa.table(columns), tmp_path / "more.parquet")
    appended = append(AppendSettings(store=store.uri, encoder=name, embeddings=str(tmp_path / "more.parquet")), size)
    assert appended.published.num_rows == NUM_TEXTS


def test_a_pretrained_model_that_is_gone_is_known_by_its_name_to_a_store_that_has_its_vectors(
    cluster: ClusterSize, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    model.symlink_to(minilm_directory())
    name, fingerprint = f"sentence-transformers:{model}", open_named(MINILM).fingerprint
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    columns = {"id": np.arange(40), "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)}
    pq.write_table(pa.table(columns), tmp_path / "vectors.parquet")
    run_adopt(
        plan_adopt(
            AdoptSettings(store=str(tmp_path / "store"), embeddings=str(tmp_path / "vectors.parquet"), encoder=name)
        )
    )
    store = Store(str(tmp_path / "store"))
    model.unlink()
    open_named.cache_clear()
    choice = resolve_encoder(name, store)
    assert (choice.ref.fingerprint, choice.uri) == (fingerprint, None)
    assert "there is no directory" in (choice.problem or "")
    assert "it cannot embed now" in caplog.text
    assert open_searcher(store.uri, name).manifest.version == 1
    with pytest.raises(SettingsError, match="there is no directory"):
        resolve_encoder(name, None)

    compared = CompareSettings(store=store.uri, encoder="new", queries="fashion-mnist:query", old_encoder=name)
    assert _old_encoder(compared, store).uri is None
    misspelt = CompareSettings(store=store.uri, encoder="new", queries="fashion-mnist:query", old_encoder="odl")
    with pytest.raises(
        SettingsError, match=r"'odl' is only a name.*if the model .* is gone, give its name, 'sentence-tr"
    ):
        _old_encoder(misspelt, store)
    for wanted in ({"views": "span:20", "old_encoder": name}, {"encoder": name}):
        given = {"store": store.uri, "encoder": MINILM, "source": "parquet:none?text=t", **wanted}
        with pytest.raises(SettingsError, match=r"cannot be had .*there is no directory.*so it cannot embed"):
            plan_upgrade(UpgradeSettings(**given), None, None)  # type: ignore[arg-type]


def test_an_endpoint_that_is_off_does_not_hinder_an_upgrade_by_pairs(cluster: ClusterSize, tmp_path: Path) -> None:
    off = "openai:new@http://127.0.0.1:9/v1"
    assert embedding_encoder(off, None).uri is None
    assert "cannot be reached" in (embedding_encoder(off, None).problem or "")
    rng = np.random.default_rng(0)
    for name, dimension in (("vectors", 4), ("pairs", 6)):
        vectors = rng.normal(size=(400, dimension)).astype(np.float32)
        columns = {"id": np.arange(400), "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), dimension)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    store = str(tmp_path / "store")
    run_adopt(plan_adopt(AdoptSettings(store=store, embeddings=str(tmp_path / "vectors.parquet"), encoder="old")))
    plan = plan_upgrade(UpgradeSettings(store=store, encoder=off, pairs=str(tmp_path / "pairs.parquet")), None, None)
    assert plan.space.dimension == 6
    with pytest.raises(ModelError, match="cannot be reached"):
        plan_upgrade(UpgradeSettings(store=store, encoder=off, source="parquet:none?text=t"), None, None)
