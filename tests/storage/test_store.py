"""A store moves from version to version: claims, receipts, publishing, rolling back."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path

import pytest

from fct_ray.errors import FormatError, NotFoundError, PublishConflictError, StoreError
from fct_ray.kinds import Metric, Provenance
from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef, Manifest, ObjectRef, Receipt, ShardRecord, Usage


def _manifest(version: int, run: str, created_at: str = "2026-01-01T00:00:00Z") -> Manifest:
    return Manifest(
        version=version,
        parent=None,
        created_at=created_at,
        num_rows=0,
        dimension=4,
        metric=Metric.L2,
        normalized=False,
        encoder=EncoderRef(name="old", fingerprint="f"),
        side_info=None,
        transformation=None,
        index=None,
        shards=(),
        gate=None,
        run=run,
    )


def _receipt(shard: int, run: str) -> Receipt:
    embeddings = ObjectRef(path=Store.shard_path(1, shard), bytes=1, sha256="ab")
    record = ShardRecord(
        shard=shard, embeddings=embeddings, index=None, rows=1, id_min=0, id_max=0, provenance=Provenance.EMBEDDED
    )
    return Receipt(run=run, record=record, usage=Usage(rows=1), peak_memory_bytes=1, worker="w")


def test_an_empty_store_says_how_to_make_a_version(root: str) -> None:
    store = Store(f"{root}/store")
    assert store.current() is None
    for listing in (store.versions(), store.history(), store.model_uris(), store.ledger("r")):
        assert len(listing) == 0
    with pytest.raises(NotFoundError, match="fct-ray backfill"):
        store.manifest()
    with pytest.raises(NotFoundError, match="Complete versions: none"):
        store.manifest(1)


def test_paths_are_those_of_the_public_format() -> None:
    assert Store.shard_path(2, 0) == "versions/000002/shards/00000.parquet"
    assert Store.index_path(2, 10) == "versions/000002/index/00010.faiss"
    assert Store.trained_path(2) == "versions/000002/index/trained.faiss"
    assert Store.receipt_path(2, 1) == "versions/000002/receipts/00001.json"
    assert Store.manifest_path(2) == "versions/000002/manifest.json"


def test_a_store_is_the_same_in_another_process_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("relative/store/")
    assert store.uri == str(tmp_path / "relative" / "store")
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301
    assert Store("s3://bucket/prefix/").uri == "s3://bucket/prefix"
    assert store.uri_of("s3://elsewhere/x.parquet") == "s3://elsewhere/x.parquet"


def test_a_published_version_is_current_and_its_bytes_are_the_public_format(root: str) -> None:
    store = Store(f"{root}/store")
    current = store.publish(_manifest(1, "r"), expected=None)
    assert store.current() == current
    assert store.manifest() == store.manifest(1) == _manifest(1, "r")
    assert store.versions() == [1]
    assert json.loads(objects.read_bytes(f"{root}/store/CURRENT.json")) == {
        "version": 1,
        "manifest": "versions/000001/manifest.json",
        "sha256": store.manifest_bytes_sha256(1),
    }


def test_of_two_publishers_the_second_gets_a_conflict_and_changes_nothing(root: str) -> None:
    store = Store(root)
    first = store.publish(_manifest(1, "a"), expected=None)
    with pytest.raises(PublishConflictError, match=r"points at version 1 .* wanted no version"):
        store.publish(_manifest(2, "b"), expected=None)
    assert store.current() == first
    assert store.versions() == [1, 2]  # complete, but never current


def test_rolling_back_moves_current_only_to_complete_versions(root: str) -> None:
    store = Store(root)
    first = store.publish(_manifest(1, "a"), expected=None)
    second = store.publish(_manifest(2, "b"), expected=first)
    assert store.move_current(1, expected=second) == first == store.current()
    assert [manifest.version for manifest in store.history()] == [1, 2]
    with pytest.raises(PublishConflictError):
        store.move_current(2, expected=second)
    with pytest.raises(NotFoundError, match=r"000003/manifest\.json.*Complete versions: \[1, 2\]"):
        store.move_current(3, expected=first)


def test_publishing_again_after_an_interruption_finishes_and_the_first_manifest_stands(root: str) -> None:
    store = Store(root)
    written = _manifest(1, "r", created_at="first try")
    objects.write_bytes(store.uri_of(Store.manifest_path(1)), documents.dump(written))
    current = store.publish(_manifest(1, "r", created_at="second try"), expected=None)
    assert store.publish(_manifest(1, "r", created_at="third try"), expected=None) == current
    assert store.manifest() == written
    with pytest.raises(StoreError, match="complete already, written by run r"):
        store.publish(dataclasses.replace(written, dimension=5), expected=current)


def test_a_foreign_but_equal_current_does_not_block_publishing(root: str) -> None:
    store = Store(root)
    first = store.publish(_manifest(1, "a"), expected=None)
    objects.write_bytes(store.uri_of("CURRENT.json"), json.dumps(dataclasses.asdict(first)).encode())
    assert store.publish(_manifest(2, "b"), expected=first).version == 2


def test_versions_are_claimed_above_all_others_and_a_resumed_run_keeps_its_own(root: str) -> None:
    store = Store(root)
    objects.write_bytes(store.uri_of("versions/000007/shards/00000.parquet"), b"left by somebody")
    assert store.claim_version("a", 1) == 8
    assert store.claim_version("b", 1) == 9
    assert store.claim_version("a", 1) == 8
    assert store.claim_version("a", 9) == 10, "what a run makes of another version goes into another directory"
    assert store.versions() == []


def test_the_ledger_has_the_receipts_of_one_run_sorted_by_shard(root: str) -> None:
    store = Store(root)
    version, caught_up = store.claim_version("mine", None), store.claim_version("mine", 1)
    for shard in (2, 0, 0):
        store.write_receipt(version, _receipt(shard, "mine"))
    store.write_receipt(caught_up, _receipt(1, "mine"))
    store.write_receipt(store.claim_version("other", None), _receipt(3, "other"))
    assert store.ledger("mine") == [_receipt(shard, "mine") for shard in (0, 1, 2)]


def test_a_run_is_unfinished_until_its_version_is_in_what_is_published(root: str) -> None:
    store = Store(root)
    for number, run in ((1, "first"), (2, "killed-before-current-moved"), (3, "edit")):
        objects.write_bytes(store.run_uri(run, "usage/x.json"), b"{}")
        assert store.claim_version(run, None if number == 1 else 1) == number
    first = store.publish(_manifest(1, "first"), expected=None)
    objects.write_bytes(
        store.uri_of(Store.manifest_path(2)), documents.dump(_manifest(2, "killed-before-current-moved"))
    )
    assert store.unfinished_runs() == {"killed-before-current-moved", "edit"}
    store.publish(_manifest(3, "edit"), expected=first)
    assert store.unfinished_runs() == {"killed-before-current-moved"}


def test_a_damaged_manifest_is_refused(root: str) -> None:
    store = Store(root)
    store.publish(_manifest(1, "a"), expected=None)
    uri = store.uri_of(Store.manifest_path(1))
    objects.write_bytes(uri, documents.dump(_manifest(1, "edited")))
    with pytest.raises(StoreError, match="edited or damaged"):
        store.manifest()
    for data, complaint in (
        (b'{"format_version": 99}', "format_version 99, wanted 1"),
        (b'{"format_', "not JSON"),
        (documents.dump(_manifest(2, "a")), "version 2, wanted 1"),
    ):
        objects.write_bytes(store.uri_of("CURRENT.json"), _current_for(data))
        objects.write_bytes(uri, data)
        with pytest.raises(FormatError, match=complaint):
            store.manifest()


def _current_for(data: bytes) -> bytes:
    pointer = {"version": 1, "manifest": Store.manifest_path(1), "sha256": documents.sha256_hex(data)}
    return json.dumps(pointer).encode()


def test_models_are_the_directories_with_a_model_document(root: str) -> None:
    store = Store(root)
    for path in ("models/b-2/model.json", "models/b-2/weights.safetensors", "models/a-1/model.json", "models/c-3/x"):
        objects.write_bytes(store.uri_of(path), b"x")
    assert store.model_uris() == [f"{root}/models/a-1", f"{root}/models/b-2"]
    assert store.run_uri("r", "gate.json") == f"{root}/runs/r/gate.json"


def test_reading_a_manifest_imports_neither_torch_nor_ray() -> None:
    import subprocess
    import sys

    code = "import sys, fct_ray.storage.store, fct_ray.storage.pairs; print({'torch','ray','faiss'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == "set()"
