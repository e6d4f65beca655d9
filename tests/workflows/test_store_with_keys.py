"""One whole story of a gallery whose items are called by UUIDs: every door takes them and every answer gives them."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.api.stores import Store as ApiStore
from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import DataError, FormatError, SourceError
from fct_ray.kinds import KeyType
from fct_ray.sources.registry import open_source
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.key_columns import key_columns
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.delete import DeleteSettings, delete
from fct_ray.workflows.item_positions import positions_of
from fct_ray.workflows.keys import ids_of, user_ids
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.unique_keys import check_unique_keys
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.fashion_vectors import Vectors, fixed_size_list
from tests.galleries import linear_h, read_version
from tests.keyed_stores import as_column, keyed_store, uuids

NUM_ITEMS, NUM_LATER = 900, 40
ENCODERS = "tests.jobs.fashion_encoders"
KEYS = uuids(NUM_ITEMS + NUM_LATER)
ONE_ACTOR = PoolSettings(min_actors=1, max_actors=1)


def _extension(keys: list[uuid.UUID]) -> Any:
    return pa.ExtensionArray.from_storage(pa.uuid(), as_column(keys, KeyType.UUID))


def _write_photos(path: Path, start: int, stop: int) -> None:
    """Photos as PNG, called by UUIDs of Arrow's type."""
    images = open_source("fashion-mnist:gallery").read(np.arange(start, stop)).columns["image"]
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc": _extension(KEYS[start:stop]), "png": encoded}), path)


def _write(path: Path, ids: pa.Array, **columns: pa.Array) -> str:
    pq.write_table(pa.table({"id": ids, **columns}), path)
    return str(path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, cluster: ClusterSize) -> Path:
    """A directory with photos and a store that was backfilled from them."""
    directory = tmp_path_factory.mktemp("keys")
    for shard, start in enumerate(range(0, NUM_ITEMS, 300)):
        _write_photos(directory / f"photos/{shard}.parquet", start, start + 300)
    settings = BackfillSettings(
        store=str(directory / "store"),
        source=f"parquet:{directory}/photos?image=png&id=doc",
        encoder=f"{ENCODERS}:old",
        rows_per_shard=400,
        pool=ONE_ACTOR,
    )
    run_backfill(plan_backfill(settings), cluster)
    return directory


@pytest.fixture
def manifest(shop: Path) -> Manifest:
    return Store(str(shop / "store")).manifest(1)


def test_a_store_that_is_made_of_items_with_keys_numbers_them_in_order(shop: Path, manifest: Manifest) -> None:
    assert (manifest.keys, manifest.format_version) == (KeyType.UUID, 3)
    table = read_version(Store(str(shop / "store")), manifest)
    assert table["id"].to_pylist() == list(range(NUM_ITEMS))
    assert table["key"].combine_chunks().equals(as_column(KEYS[:NUM_ITEMS], KeyType.UUID))


def test_keys_lead_to_ids_and_ids_to_keys_and_unknown_ones_are_named(shop: Path, manifest: Manifest) -> None:
    store = Store(str(shop / "store"))
    asked = [KEYS[850], KEYS[3], KEYS[420]]
    assert ids_of(store, manifest, pa.array([str(key) for key in asked]), "f").tolist() == [850, 3, 420]
    assert user_ids(store, manifest, np.array([850, 3, 3, 420])).to_pylist() == [
        KEYS[row].bytes for row in (850, 3, 3, 420)
    ]
    with pytest.raises(DataError, match=f"f: 1 of 2 ids are not in the store .for example {KEYS[NUM_ITEMS]}"):
        ids_of(store, manifest, as_column([KEYS[0], KEYS[NUM_ITEMS]], KeyType.UUID), "f")


def test_raw_items_are_found_by_key_wherever_they_lie(shop: Path, manifest: Manifest, tmp_path: Path) -> None:
    store = Store(str(shop / "store"))
    pq.write_table(
        pa.table({"name": [str(key) for key in KEYS[::-1]], "text": ["x"] * len(KEYS)}), tmp_path / "1.parquet"
    )
    source = open_source(f"parquet:{tmp_path}?text=text&id=name")
    assert positions_of(store, manifest, np.array([5, 0]), source).tolist() == [len(KEYS) - 6, len(KEYS) - 1]
    pq.write_table(pa.table({"name": [1], "text": ["x"]}), tmp_path / "1.parquet")
    with pytest.raises(SourceError, match=r"calls its items by int64; wanted UUIDs.*&id=COLUMN"):
        positions_of(store, manifest, np.array([5]), open_source(f"parquet:{tmp_path}?text=text&id=name"))


def test_a_key_that_two_shards_have_is_refused_with_both_places(cluster: ClusterSize, tmp_path: Path) -> None:
    keys = uuids(30)
    store, made = keyed_store(tmp_path / "good", [keys[:10], keys[10:]], KeyType.UUID)
    check_unique_keys(key_columns(store, made), keys_per_task=7)
    store, made = keyed_store(tmp_path / "bad", [keys[:10], [*keys[10:], keys[4]]], KeyType.UUID)
    places = r"00000\.parquet .row 4. and in .*00001\.parquet .row 20; 1 such ids or more."
    with pytest.raises(DataError, match=f"id {keys[4]} is in .*{places}"):
        check_unique_keys(key_columns(store, made), keys_per_task=7)


def test_adopted_and_appended_items_bring_keys_each_of_which_is_there_once(
    vectors: Vectors, cluster: ClusterSize, tmp_path: Path
) -> None:
    def embeddings(name: str, start: int, stop: int, keys: list[str]) -> str:
        (tmp_path / name).mkdir()
        return _write(
            tmp_path / name / "rows.parquet", pa.array(keys), embedding=fixed_size_list(vectors.old_ND[start:stop])
        )

    store, names = Store(str(tmp_path / "store")), [f"d{number}" for number in range(130)]
    twice = embeddings("twice", 0, 100, [*names[:99], "d7"])
    with pytest.raises(DataError, match=r"id d7 is in .*rows\.parquet .row 7. and in .*rows\.parquet .row 99; 1 such"):
        run_adopt(plan_adopt(AdoptSettings(store=store.uri, embeddings=twice, encoder="old-api")))
    once = embeddings("once", 0, 100, names[:100])
    adopted = run_adopt(plan_adopt(AdoptSettings(store=store.uri, embeddings=once, encoder="old-api"))).published
    assert (adopted.keys, adopted.version) == (KeyType.STRING, 2)
    assert ids_of(store, adopted, pa.array(["d99", "d3"]), "f").tolist() == [99, 3]

    again = embeddings("again", 100, 110, [*names[100:109], "d5"])
    with pytest.raises(DataError, match=r"id d5 is in .*rows\.parquet .row 5. and in .*shards/00001\.parquet .row 9;"):
        append(AppendSettings(store=store.uri, encoder="old-api", embeddings=again), cluster)
    new = embeddings("new", 100, 130, names[100:])
    done = append(AppendSettings(store=store.uri, encoder="old-api", embeddings=new), cluster).published
    assert [(record.id_min, record.id_max) for record in done.shards] == [(0, 99), (100, 129)]
    assert delete(DeleteSettings(store=store.uri, items="d120,d4")).published.num_rows == 128
    _, keys_QK = open_searcher(store.uri, "old-api").search(vectors.old_ND[[4, 5, 120, 121]], k=1)
    assert (keys_QK[:, 0] == np.array(["d4", "d5", "d120", "d121"])).tolist() == [False, True, False, True]
    assert verify_store(VerifySettings(store=store.uri)).problems == ()


@pytest.mark.journey
def test_from_pairs_to_an_upgraded_store_that_is_searched_appended_to_and_deleted_from(
    shop: Path, vectors: Vectors, cluster: ClusterSize
) -> None:
    store, api = Store(str(shop / "store")), ApiStore(shop / "store")
    rows = np.arange(0, NUM_ITEMS, 3)
    numbers = _write(shop / "numbers.parquet", pa.array(rows), embedding=fixed_size_list(vectors.new_NW[rows]))
    pairs = _write(
        shop / "pairs.parquet",
        pa.array([str(KEYS[row]) for row in rows]),
        embedding=fixed_size_list(vectors.new_NW[rows]),
    )
    asked = np.arange(1, NUM_ITEMS, 10)
    queries = str(shop / "queries.parquet")
    noise = np.random.default_rng(0)
    columns = {
        "old": fixed_size_list(
            (vectors.old_ND[asked] + noise.normal(0, 3.0, (len(asked), 6))).astype(np.float32)
        ),  # finds next to nothing
        "new": fixed_size_list((vectors.new_NW[asked] + noise.normal(0, 0.02, (len(asked), 48))).astype(np.float32)),
        "relevant": pa.array([[str(KEYS[row])] for row in asked]),
    }
    pq.write_table(pa.table(columns), queries)
    settings: dict[str, Any] = {
        "store": store.uri, "encoder": f"{ENCODERS}:new", "queries": queries, "index": "IVF8,Flat", "pool": ONE_ACTOR,
        "transformation": linear_h(store, vectors, f"{ENCODERS}:new", shop / "models"),
    }  # fmt: skip
    with pytest.raises(FormatError, match=r"numbers\.parquet: the ids are int64; wanted UUIDs"):
        plan_upgrade(UpgradeSettings(pairs=numbers, **settings), None, None)
    outcome = run_upgrade(plan_upgrade(UpgradeSettings(pairs=pairs, **settings), None, None), cluster)
    assert outcome.published is not None, outcome.judged
    assert outcome.judged is not None
    assert outcome.judged.result.evidence == "queries"
    assert (outcome.published.keys, outcome.published.version) == (KeyType.UUID, 2)
    assert verify_store(VerifySettings(store=store.uri)).problems == ()
    table = read_version(store, outcome.published)
    stored_QW = np.stack(table["embedding"].take(pa.array([5, 700])).to_numpy(zero_copy_only=False))
    _check_searched(api, stored_QW, rows=[5, 700], found=True)

    later = np.arange(NUM_ITEMS, NUM_ITEMS + NUM_LATER)
    _write_photos(shop / "photos/later.parquet", NUM_ITEMS, NUM_ITEMS + NUM_LATER)
    done = append(
        AppendSettings(
            store=store.uri, encoder=f"{ENCODERS}:new", source=f"parquet:{shop}/photos?image=png&id=doc", pool=ONE_ACTOR
        ),
        cluster,
    )
    assert (done.changed, done.published.num_rows) == (NUM_LATER, NUM_ITEMS + NUM_LATER)
    assert (done.published.shards[-1].id_min, done.published.shards[-1].id_max) == (later[0], later[-1])
    _check_searched(api, vectors.new_NW[later[[0, 9]]], rows=later[[0, 9]].tolist(), found=True)

    assert delete(DeleteSettings(store=store.uri, items=f"{KEYS[5]}, {KEYS[later[0]].hex}")).changed == 2
    assert api.delete([KEYS[700]]) == 5
    gone = _write(shop / "gone.parquet", _extension([KEYS[later[9]], KEYS[5]]))
    with pytest.raises(DataError, match=f"1 of 2 ids are not in version 5 .for example {KEYS[5]}"):
        delete(DeleteSettings(store=store.uri, ids=gone))
    assert delete(DeleteSettings(store=store.uri, ids=gone, missing_ok=True)).changed == 1
    gone_QW = np.concatenate([stored_QW, vectors.new_NW[later[[0, 9]]]])
    _check_searched(api, gone_QW, rows=[5, 700, *later[[0, 9]].tolist()], found=False)
    assert verify_store(VerifySettings(store=store.uri)).problems == ()
    _check_readable_with_pyarrow_and_faiss(store)


def _check_searched(api: ApiStore, queries_QW: np.ndarray, rows: list[int], *, found: bool) -> None:
    """Whether what is nearest to these vectors, which are those of the items of these rows, are these items by their keys."""
    _, keys_QK = api.searcher(f"{ENCODERS}:new").search(queries_QW, k=5, nprobe=8)
    assert [KEYS[row] in keys_K for row, keys_K in zip(rows, keys_QK.tolist(), strict=True)] == [found] * len(rows)


def _check_readable_with_pyarrow_and_faiss(store: Store) -> None:
    """What an index finds has its key in the shard beside it."""
    for record in store.manifest().shards:
        assert record.index is not None
        table = pair_files.read_table(store.uri_of(record.embeddings.path))
        index = faiss.read_index(store.uri_of(record.index.path))
        key_of = dict(zip(table["id"].to_pylist(), table["key"].to_pylist(), strict=True))
        own_ND = np.stack(table["embedding"].to_numpy())[:3]
        faiss.extract_index_ivf(index).nprobe = 8
        _, ids_QK = index.search(own_ND, 1)
        assert [key_of[number] for number in ids_QK[:, 0].tolist()] == table["key"].to_pylist()[:3]
