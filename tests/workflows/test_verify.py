"""`store.py verify` finds damage of every kind, also where somebody made the documents agree with it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.errors import FormatError, StoreError
from fct_ray.report.outcomes import upgrade_report
from fct_ray.storage import documents, pairs, parquet_tables, shards
from fct_ray.storage.store import Store
from fct_ray.values import ObjectRef, ShardRecord
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.workflows.living import Living

Damage = Callable[[Store], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, upgraded: Living) -> Store:
    """An upgraded gallery from which three items were deleted afterwards."""
    living = upgraded.copy(tmp_path_factory.mktemp("whole"))
    living.delete(np.array([801, 805, 809]))  # of shard 1
    return living.store


@pytest.fixture
def store(whole: Store, tmp_path: Path) -> Store:
    """A copy of it, to be damaged."""
    shutil.copytree(whole.uri, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def _path(store: Store, path: str) -> Path:
    return Path(store.uri_of(path))


def _shard(store: Store, number: int) -> ShardRecord:
    return next(record for record in store.manifest().shards if record.shard == number)


def _replace_bytes(store: Store, ref: ObjectRef, data: bytes) -> None:
    _path(store, ref.path).write_bytes(data)


def _forge(store: Store, shard: int, *, embeddings: bytes | None = None, index: bytes | None = None) -> None:
    """Replace objects of a shard and make receipt, manifest and CURRENT agree with them."""
    manifest, record = store.manifest(), _shard(store, shard)
    for name, data in (("embeddings", embeddings), ("index", index)):
        if data is not None:
            ref = getattr(record, name)
            _replace_bytes(store, ref, data)
            changed = dataclasses.replace(ref, bytes=len(data), sha256=documents.sha256_hex(data))
            record = dataclasses.replace(record, **{name: changed})
    receipt_path = _path(store, record.embeddings.path.replace("/shards/", "/receipts/").replace(".parquet", ".json"))
    (receipt,) = [r for r in store.receipts(int(record.embeddings.path.split("/")[1])) if r.record.shard == shard]
    receipt_path.write_bytes(documents.dump(dataclasses.replace(receipt, record=record)))
    forged = dataclasses.replace(
        manifest, shards=tuple(record if other.shard == shard else other for other in manifest.shards)
    )
    _write_manifest(store, documents.dump(forged))


def _write_manifest(store: Store, data: bytes) -> None:
    current = store.current()
    assert current is not None
    _path(store, current.manifest).write_bytes(data)
    pointer = documents.dump(dataclasses.replace(current, sha256=documents.sha256_hex(data)))
    _path(store, "CURRENT.json").write_bytes(pointer)


def _flipped_bit(store: Store) -> None:
    ref = _shard(store, 2).embeddings
    data = bytearray(_path(store, ref.path).read_bytes())
    data[len(data) // 2] ^= 1
    _replace_bytes(store, ref, bytes(data))


def _truncated_shard(store: Store) -> None:
    ref = _shard(store, 2).embeddings
    _replace_bytes(store, ref, _path(store, ref.path).read_bytes()[:-100])


def _swapped_shards(store: Store) -> None:
    one, other = (_path(store, _shard(store, number).embeddings.path) for number in (2, 3))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _missing_index(store: Store) -> None:
    index = _shard(store, 3).index
    assert index is not None
    _path(store, index.path).unlink()


def _stale_index(store: Store) -> None:
    """The index of shard 1 before its three items were deleted, and documents that agree with it."""
    _forge(store, 1, index=_path(store, Store.index_path(2, 1)).read_bytes())


def _index_of_other_vectors(store: Store) -> None:
    """The right ids, trained together, but the vectors of other rows."""
    from fct_ray.index.build import ShardIndexBuilder

    record, manifest = _shard(store, 3), store.manifest()
    assert manifest.index is not None
    assert manifest.index.trained is not None
    columns = shards.parse_shard(store.read(record.embeddings), "shard", dimension=None, side_dimension=None)
    trained = store.read(manifest.index.trained)
    builder = ShardIndexBuilder(trained, manifest.index.factory, manifest.dimension, manifest.metric)
    builder.add(columns.ids_N, columns.embeddings_ND[::-1].copy())
    _forge(store, 3, index=builder.finish())


def _shard_of_old_vectors(store: Store) -> None:
    """Vectors that h did not make, of the right dimension, with an index and documents that agree."""
    from fct_ray.index.build import ShardIndexBuilder

    record, manifest = _shard(store, 0), store.manifest()
    assert manifest.index is not None
    assert manifest.index.trained is not None
    columns = shards.parse_shard(store.read(record.embeddings), "shard", dimension=None, side_dimension=None)
    table = shards.with_embeddings(columns.table, columns.embeddings_ND[::-1].copy())
    trained = store.read(manifest.index.trained)
    builder = ShardIndexBuilder(trained, manifest.index.factory, manifest.dimension, manifest.metric)
    builder.add(columns.ids_N, columns.embeddings_ND[::-1].copy())
    _forge(store, 0, embeddings=shards.encode_table(table), index=builder.finish())


def _foreign_object(store: Store) -> None:
    own = Store.shard_path(store.manifest().version, 77)
    _path(store, own).write_bytes(_path(store, _shard(store, 0).embeddings.path).read_bytes())


def _id_of_another_shard(store: Store) -> None:
    """One id of shard 2 becomes one of shard 3, in vectors and documents."""
    table = pa.ipc.open_stream(_ipc(store, 2)).read_all()
    ids = table["id"].to_numpy().copy()
    ids[-1] = pairs.read_ids(store.uri_of(_shard(store, 3).embeddings.path))[5]
    _forge(store, 2, embeddings=shards.encode_table(table.set_column(0, "id", pa.array(ids))))
    manifest = store.manifest()
    wider = dataclasses.replace(_shard(store, 2), id_max=int(ids.max()))
    _write_manifest(
        store,
        documents.dump(
            dataclasses.replace(
                manifest, shards=tuple(wider if record.shard == 2 else record for record in manifest.shards)
            )
        ),
    )


def _ipc(store: Store, number: int) -> bytes:
    table = parquet_tables.read_parquet_bytes(store.read(_shard(store, number).embeddings), "shard")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _edited_hash(store: Store) -> None:
    """The manifest says another hash of a shard than the worker that wrote it."""
    manifest = store.manifest()
    first = manifest.shards[0]
    wrong = dataclasses.replace(first, embeddings=dataclasses.replace(first.embeddings, sha256="0" * 64))
    _write_manifest(store, documents.dump(dataclasses.replace(manifest, shards=(wrong, *manifest.shards[1:]))))


def test_a_whole_version_has_no_problems_and_every_shard_was_read(whole: Store) -> None:
    verified = verify_store(VerifySettings(store=whole.uri))
    assert verified.problems == ()
    assert (verified.num_read, verified.num_recomputed) == (5, 4)
    assert verified.recall is not None
    assert verified.recall > 0.9
    for version in (1, 2):
        assert verify_store(VerifySettings(store=whole.uri, version=version)).problems == ()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flipped_bit, ["versions/000002/shards/00002.parquet", "sha256 is"]),
        (_truncated_shard, ["versions/000002/shards/00002.parquet", "sha256 is"]),
        (_swapped_shards, ["shards/00002.parquet: sha256 is", "shards/00003.parquet: sha256 is"]),
        (_missing_index, ["versions/000002/index/00003.faiss: is missing"]),
        (_stale_index, ["index/00001.faiss: its ids are not those of"]),
        (_index_of_other_vectors, ["index/00003.faiss", "finds more: a stale index?"]),
        (_shard_of_old_vectors, ["shards/00000.parquet: vectors made again from", "differ by up to"]),
        (_foreign_object, ["versions/000003/shards/00077.parquet: no part of version 3"]),
        (_id_of_another_shard, ["is in", "and in", "want every id once"]),
        (_edited_hash, ["its receipt and the manifest of version 3 disagree"]),
    ],
)
def test_damage_is_found_and_named(store: Store, damage: Damage, words: list[str]) -> None:
    damage(store)
    problems = verify_store(VerifySettings(store=store.uri, recompute=5)).problems
    for word in words:
        assert any(word in problem for problem in problems), problems


def test_a_manifest_whose_numbers_disagree_is_refused_although_current_knows_it(store: Store) -> None:
    manifest = store.manifest()
    _write_manifest(store, documents.dump(dataclasses.replace(manifest, shards=manifest.shards[:-1])))
    with pytest.raises(FormatError, match="num_rows is"):
        verify_store(VerifySettings(store=store.uri))


def test_a_manifest_that_current_does_not_know_is_refused_at_once(store: Store) -> None:
    path = _path(store, store.manifest_path(3))
    path.write_bytes(path.read_bytes().replace(b'"version": 3', b'"version":  3'))
    with pytest.raises(StoreError, match="edited or damaged"):
        verify_store(VerifySettings(store=store.uri))


def test_where_nothing_is_read_back_no_recall_is_claimed(living: Living) -> None:
    """`--verify-shards 0` reported a recall of 1.0 as if it had been measured."""
    settings = dataclasses.replace(living.settings(), verify_shards=0, index="Flat")
    outcome = run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert outcome.published is not None
    assert outcome.recall is None
    report = upgrade_report(outcome, settings, pricing_of(PricingSettings()))
    assert any("nothing was read back before publishing (--verify-shards 0)" in note for note in report.notes)
    assert not any("recall@10" in note for note in report.notes)
