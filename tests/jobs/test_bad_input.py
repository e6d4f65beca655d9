"""Bad input: refused with the value seen, the value wanted and the next action; CURRENT unchanged, exit code not 0.

What the driver can see is checked on the driver without starting Ray (planning); what lies inside shards is refused by
the shard's worker, and those tests run the job.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, FctRayError, FormatError, ModelError, NotFoundError, SettingsError, StoreError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.model_files import pack_model
from fct_ray.models.transformation import Transformation, TransformationArchitecture
from fct_ray.report.outcomes import plan_report
from fct_ray.storage.store import Store
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from tests.fashion_vectors import Vectors, fixed_size_list
from tests.galleries import linear_h
from tests.jobs import fashion_encoders
from tests.jobs.conftest import run_job

ENCODERS = "tests.jobs.fashion_encoders"


@pytest.fixture(scope="module")
def store(cluster: ClusterSize, tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    """An adopted store of real photos' embeddings."""
    path = tmp_path_factory.mktemp("bad") / "store"
    run_adopt(plan_adopt(AdoptSettings(store=str(path), embeddings=str(gallery), encoder="old-api")))
    return path


def _refused(settings: UpgradeSettings, kind: type[FctRayError], *words: str) -> None:
    before = (Path(settings.store) / "CURRENT.json").read_bytes()
    with pytest.raises(kind) as refusal:
        plan_upgrade(settings, None, None)
    for word in words:
        assert word in str(refusal.value)
    assert (Path(settings.store) / "CURRENT.json").read_bytes() == before
    assert not (Path(settings.store) / "versions/000002").exists()


def _pairs(path: Path, ids: object, matrix: np.ndarray) -> str:
    pq.write_table(pa.table({"id": ids, "embedding": fixed_size_list(matrix)}), path)
    return str(path)


def _settings(store: Path, pairs: str) -> UpgradeSettings:
    return UpgradeSettings(store=str(store), encoder="new-api", pairs=pairs)


def test_a_store_that_is_not_there(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        plan_upgrade(_settings(tmp_path / "nowhere", str(pairs)), None, None)


def test_pairs_without_an_embedding_column(store: Path, tmp_path: Path, vectors: Vectors) -> None:
    pq.write_table(pa.table({"id": vectors.ids_N[:9]}), tmp_path / "p.parquet")
    _refused(_settings(store, str(tmp_path / "p.parquet")), FormatError, "embedding", "id")


def test_pairs_with_nan_name_their_row(store: Path, tmp_path: Path, vectors: Vectors) -> None:
    matrix = vectors.new_NW[:100].copy()
    matrix[17, 3] = np.nan
    _refused(_settings(store, _pairs(tmp_path / "p.parquet", vectors.ids_N[:100], matrix)), DataError, "row 17")


def test_pairs_with_duplicate_ids(store: Path, tmp_path: Path, vectors: Vectors) -> None:
    ids = vectors.ids_N[:100].copy()
    ids[5] = ids[90]
    _refused(_settings(store, _pairs(tmp_path / "p.parquet", ids, vectors.new_NW[:100])), DataError, str(ids[5]))


def test_pairs_of_another_gallery(store: Path, tmp_path: Path, vectors: Vectors) -> None:
    ids = vectors.ids_N[:100] + 10_000_000
    uri = _pairs(tmp_path / "p.parquet", ids, vectors.new_NW[:100])
    _refused(_settings(store, uri), DataError, "100 of 100", str(ids[0]), "not in the store")


def test_neither_pairs_nor_raw_items(store: Path) -> None:
    _refused(UpgradeSettings(store=str(store), encoder="new-api"), SettingsError, "--pairs", "--source")


def test_the_encoder_that_the_store_has_already(store: Path, pairs: Path) -> None:
    _refused(replace(_settings(store, str(pairs)), encoder="old-api"), SettingsError, "old-api")


def test_side_information_that_the_store_does_not_have(store: Path, pairs: Path) -> None:
    _refused(replace(_settings(store, str(pairs)), side_info="clip"), SettingsError, "clip")


@pytest.mark.parametrize("factory", ["Flatt", "IVF16,PQ7", ""])
def test_an_index_that_faiss_cannot_build(store: Path, pairs: Path, factory: str) -> None:
    _refused(replace(_settings(store, str(pairs)), index=factory), SettingsError)


def test_a_budget_below_the_forecast(store: Path, pairs: Path) -> None:
    settings = replace(_settings(store, str(pairs)), max_usd=1e-9)
    with pytest.raises(SettingsError, match="budget"):
        plan_upgrade(settings, 100.0, None)


def test_the_forecast_holds_what_embedding_the_pairs_takes_and_so_does_the_budget(store: Path, pairs: Path) -> None:
    """`--max-usd` let any number of pairs through, whatever embedding them took."""
    new, source = f"{ENCODERS}:new", "fashion-mnist:gallery?limit=6000"
    settings = UpgradeSettings(store=str(store), encoder=new, source=source, num_pairs=1000)
    given = plan_upgrade(UpgradeSettings(store=str(store), encoder=new, pairs=str(pairs)), 1.0, None).forecast
    few = plan_upgrade(settings, 1.0, None).forecast
    many = plan_upgrade(replace(settings, num_pairs=6000), 1.0, None).forecast
    assert many.wall_s > few.wall_s
    assert given.left_out == few.left_out == ()
    costly = _encoder_that_takes(1e15)
    with pytest.raises(SettingsError, match="budget 1 USD"):
        plan_upgrade(replace(settings, max_usd=1.0), 1.0, None, encoder=costly)


def test_a_budget_cannot_be_held_where_nobody_knows_what_embedding_the_pairs_takes(store: Path) -> None:
    settings = UpgradeSettings(store=str(store), encoder="new", source="fashion-mnist:gallery?limit=6000")
    silent = _encoder_that_takes(0.0)
    plan = plan_upgrade(settings, 1.0, None, encoder=silent)
    assert "does not say what an item takes" in plan.forecast.left_out[0]
    assert any(
        "leaves out embedding the pairs" in note
        for note in plan_report(plan, settings, pricing_of(PricingSettings())).notes
    )
    with pytest.raises(SettingsError, match="leaves out embedding the pairs"):
        plan_upgrade(replace(settings, max_usd=1000.0), 1.0, None, encoder=silent)


def _encoder_that_takes(flops: float) -> BatchEncoder:
    encoder = copy.copy(fashion_encoders.new())
    encoder.flops_per_item = flops
    return encoder


def test_pairs_that_are_too_few_or_too_many_are_refused_before_any_is_embedded(
    store: Path, tmp_path: Path, vectors: Vectors
) -> None:
    source = UpgradeSettings(store=str(store), encoder=f"{ENCODERS}:new", source="fashion-mnist:gallery?limit=6000")
    _refused(replace(source, num_pairs=100), SettingsError, "about 20 to judge by", "--num-pairs")
    _refused(replace(source, num_pairs=6001), SettingsError, "--num-pairs is 6,001", "6,000 rows")
    few = _pairs(tmp_path / "p.parquet", vectors.ids_N[:100], vectors.new_NW[:100])
    _refused(_settings(store, few), SettingsError, "held out for the gate, wanted at least")
    _refused(replace(_settings(store, few), num_pairs=50), SettingsError, "--num-pairs 50 is given with --pairs")


@pytest.mark.parametrize("backwards", [True, False])
def test_a_transformation_for_other_encoders_or_in_the_wrong_direction(
    store: Path, pairs: Path, tmp_path: Path, backwards: bool
) -> None:
    from fct_ray.shards.encoder_names import resolve_encoder
    from fct_ray.shards.model_directory import save_model

    old, new = resolve_encoder("old-api", None).ref, resolve_encoder("new-api", None).ref
    start, end = (new, old) if backwards else (resolve_encoder("third-api", None).ref, new)
    module = Transformation(TransformationArchitecture(old_dimension=16, new_dimension=48, inner=8))
    packed = pack_model(
        module,
        kind="transformation",
        name="h",
        provenance={},
        from_encoder=start.fingerprint,
        to_encoder=end.fingerprint,
    )
    uri = save_model(str(tmp_path), packed)
    word = "direction" if backwards else "old-api"
    _refused(replace(_settings(store, str(pairs)), transformation=uri), ModelError, word)


Damage = Callable[[pa.Table], pa.Table]


def _without_ids(table: pa.Table) -> pa.Table:
    return table.drop_columns(["id"])


def _with_infinity(table: pa.Table) -> pa.Table:
    matrix = np.stack(table["embedding"].to_numpy()).copy()
    matrix[41, 0] = np.inf
    return table.set_column(1, "embedding", fixed_size_list(matrix))


def _with_a_doubled_id(table: pa.Table) -> pa.Table:
    ids = table["id"].to_numpy().copy()
    ids[3] = ids[4]
    return table.set_column(0, "id", pa.array(ids))


def _of_another_dimension(table: pa.Table) -> pa.Table:
    return table.set_column(1, "embedding", fixed_size_list(np.stack(table["embedding"].to_numpy())[:, :4]))


@pytest.mark.parametrize(
    ("damage", "word"),
    [(_without_ids, "id"), (_with_infinity, "row 41"), (_with_a_doubled_id, "row"), (_of_another_dimension, "4")],
)
def test_adopting_a_bad_shard_names_the_shard_and_makes_no_store(
    cluster: ClusterSize, gallery: Path, tmp_path: Path, damage: Damage, word: str
) -> None:
    copy = shutil.copytree(gallery, tmp_path / "gallery")
    bad = copy / "part-003.parquet"
    pq.write_table(damage(pq.read_table(bad)), bad)
    with pytest.raises(StoreError, match=r"part-003\.parquet") as refusal:
        run_adopt(plan_adopt(AdoptSettings(store=str(tmp_path / "s"), embeddings=str(copy), encoder="old-api")))
    assert word in str(refusal.value)
    assert not (tmp_path / "s" / "CURRENT.json").exists()


def test_adopting_two_objects_with_the_same_id_names_both(cluster: ClusterSize, gallery: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(gallery, tmp_path / "gallery")
    table = pq.read_table(copy / "part-000.parquet")
    other = pq.read_table(copy / "part-005.parquet")
    ids = other["id"].to_numpy().copy()
    ids[0] = table["id"][7].as_py()
    pq.write_table(other.set_column(0, "id", pa.array(ids)), copy / "part-005.parquet")
    with pytest.raises(DataError, match=r"part-000\.parquet.*part-005\.parquet"):
        run_adopt(plan_adopt(AdoptSettings(store=str(tmp_path / "s"), embeddings=str(copy), encoder="o")))


def test_a_job_that_refuses_says_why_last_and_exits_with_2(tmp_path: Path) -> None:
    done = run_job("embed", "adopt", "--store", tmp_path / "s", "--embeddings", tmp_path, "--encoder", "o", expect=2)
    assert str(tmp_path) in done.stderr.strip().splitlines()[-1]


def test_a_shard_damaged_after_adoption_stops_the_upgrade_and_publishes_nothing(
    cluster: ClusterSize, gallery: Path, pairs: Path, vectors: Vectors, tmp_path: Path
) -> None:
    copy, store = shutil.copytree(gallery, tmp_path / "gallery"), Store(str(tmp_path / "s"))
    run_adopt(plan_adopt(AdoptSettings(store=store.uri, embeddings=str(copy), encoder="old-api")))
    h = linear_h(store, vectors, "new-api", tmp_path / "models")
    settings = replace(_settings(Path(store.uri), str(pairs)), transformation=h)
    data = bytearray((copy / "part-002.parquet").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (copy / "part-002.parquet").write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"part-002\.parquet"):
        run_upgrade(plan_upgrade(settings, None, None), cluster)
    assert store.manifest().version == 1
