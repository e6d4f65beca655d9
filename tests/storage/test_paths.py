"""No document of a store leads out of it, but to objects that were adopted by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fct_ray.errors import FormatError
from fct_ray.storage import documents, objects, parquet_listing, paths
from fct_ray.storage.manifest_checks import check_manifest
from fct_ray.storage.store import Store
from fct_ray.values import Current, IndexRef, Manifest, ObjectRef
from tests.plan.manifests import parent_manifest

OUTSIDE = [
    "../../etc/passwd",
    "versions/000001/shards/../../../secret",
    "versions/000001/shards/./a.parquet",
    "versions/000001/shards//a.parquet",
    "versions/000001/shards/..\\..\\a.parquet",
    "versions/000001/shards/a\0.parquet",
    "versions/000001/shards/%2e%2e/a.parquet",
    "versions/000001/shards/s3://other/a.parquet",
    "versions/1/shards/a.parquet",
    "versions/000001/receipts/00000.json",
    "models/new/weights.safetensors",
    "/etc/passwd",
    "",
    "file:///etc/passwd",
    "file:///data/gallery/../secret.parquet",
    "file:///data/gallery/%2e%2e/secret.parquet",
    "file:///data/gallery/%2E%2E%2Fsecret.parquet",
    "file:///data/gallery-of-another/a.parquet",
    "file:///data/gallery//a.parquet",
    "file:///data/gallery/a.parquet?x",
    "file:///data/gallery/a%00.parquet",
    "file://host/data/gallery/a.parquet",
    "FILE:///data/gallery/a.parquet",
    "s3://bucket/photos/a.parquet",
    "s3://bucket/vectors/../photos/a.parquet",
    "s3://bucket/vectors/%2e%2e/photos/a.parquet",
    "s3://bucket-of-another/vectors/a.parquet",
    "s3://key:secret@bucket/vectors/a.parquet",
    "http://bucket/vectors/a.parquet",
    "memory://vectors/a.parquet",
]
ROOTS = ("file:///data/gallery", "s3://bucket/vectors")


def _manifest(path: str, **changes: Any) -> Manifest:
    manifest = parent_manifest(num_shards=1)
    record = dataclasses.replace(manifest.shards[0], embeddings=ObjectRef(path=path, bytes=1, sha256="a"))
    return dataclasses.replace(manifest, shards=(record,), adopted_from=ROOTS, **changes)


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_shard_outside_of_the_store_and_of_what_was_adopted_is_refused(path: str) -> None:
    with pytest.raises(FormatError, match=r"manifest\.json: shard 0 is .*; wanted .*\. .*rollback"):
        check_manifest(_manifest(path), "s3://b/manifest.json")


@pytest.mark.parametrize(
    "path",
    [
        "versions/000007/shards/00000.parquet",
        "versions/1234567/shards/part one/ä.parquet",
        "versions/000001/shards/a..b.parquet",
        "file:///data/gallery/a.parquet",
        "file:///data/gallery/deep/gro%C3%9F%20und%20%25.parquet",
        "s3://bucket/vectors/part 0 ä %25.parquet",
    ],
)
def test_a_shard_of_any_version_or_below_an_adopted_directory_is_accepted(path: str) -> None:
    assert [record.embeddings.path for record in check_manifest(_manifest(path), "uri").shards] == [path]


@pytest.mark.parametrize(
    "root", ["file:///data/..", "/data", "s3://", "s3://a/../b", "https://host/x", "file:///a/%2e."]
)
def test_a_root_of_adopted_objects_has_one_spelling_too(root: str) -> None:
    manifest = dataclasses.replace(_manifest("versions/000001/shards/a"), adopted_from=(root,))
    with pytest.raises(FormatError, match="adopted_from"):
        check_manifest(manifest, "uri")


@pytest.mark.parametrize("path", ["file:///data/gallery/0.faiss", "versions/000001/shards/0.faiss", "../0.faiss"])
def test_index_files_lie_in_the_store_only(path: str) -> None:
    ref = ObjectRef(path=path, bytes=1, sha256="a")
    trained = _manifest("versions/000001/shards/a", index=IndexRef(factory="IVF1,Flat", trained=ref))
    inside = ObjectRef(path="versions/000001/index/0.faiss", bytes=1, sha256="a")
    for index, complaint in ((inside, "trained index"), (ref, "index of shard 0")):
        record = dataclasses.replace(trained.shards[0], index=index)
        with pytest.raises(FormatError, match=complaint):
            check_manifest(dataclasses.replace(trained, shards=(record,)), "uri")


@pytest.mark.parametrize(
    "pointer",
    [
        {"manifest": "versions/000002/manifest.json"},
        {"manifest": "versions/000001/shards/00000.parquet"},
        {"manifest": "../other/versions/000001/manifest.json"},
        {"manifest": "s3://other/versions/000001/manifest.json"},
        {"version": 0, "manifest": "versions/000000/manifest.json"},
        {"version": -1},
    ],
)
def test_current_names_the_manifest_of_its_own_version_and_nothing_else(
    tmp_path: Path, pointer: dict[str, Any]
) -> None:
    whole = {"version": 1, "manifest": Store.manifest_path(1), "sha256": "a" * 64} | pointer
    (tmp_path / "CURRENT.json").write_text(json.dumps(whole))
    for read in (Store(str(tmp_path)).current, Store(str(tmp_path)).manifest):
        with pytest.raises(FormatError, match=r"CURRENT\.json: version .*; wanted 'versions/.*rollback"):
            read()


def test_a_planted_manifest_is_refused_when_read_and_an_escaping_one_is_never_published(tmp_path: Path) -> None:
    (tmp_path / "secret.parquet").write_bytes(b"x")
    store = Store(str(tmp_path / "store"))
    escaping = dataclasses.replace(_manifest("../secret.parquet"), adopted_from=())
    with pytest.raises(FormatError, match="secret"):
        store.publish(escaping, expected=None)
    assert store.versions() == []
    data = documents.dump(escaping)
    objects.write_bytes(store.uri_of(Store.manifest_path(1)), data)
    current = Current(version=1, manifest=Store.manifest_path(1), sha256=documents.sha256_hex(data))
    objects.write_bytes(store.uri_of("CURRENT.json"), documents.dump(current))
    for read in (store.manifest, store.history, lambda: store.manifest(1)):
        with pytest.raises(FormatError, match=r"shard 0 is '\.\./secret\.parquet'"):
            read()


NAMES = [
    "a b.parquet",
    "größe.parquet",
    "日本/語.parquet",
    "100%.parquet",
    "%2e%2e.parquet",
    "q?a#b&c=d;e.parquet",
    "x:y@z,+~.parquet",
]


@pytest.mark.parametrize("place", ["local", "s3"])
def test_files_with_any_legitimate_name_can_be_adopted_and_opened_again(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = f"{tmp_path}/the gallery" if place == "local" else f"{request.getfixturevalue('s3_uri')}/the gallery"
    for name in NAMES:
        objects.write_bytes(f"{root}/{name}", name.encode())
    uris = parquet_listing.list_parquet(root)
    assert paths.adopted_root(uris) == objects.as_uri(root)
    for uri in uris:
        manifest = dataclasses.replace(_manifest(uri), adopted_from=(objects.as_uri(root),))
        path = check_manifest(manifest, "uri").shards[0].embeddings.path
        assert objects.read_bytes(Store(str(tmp_path)).uri_of(path)).decode() in NAMES
    assert len(uris) == len(NAMES)


def test_what_is_adopted_is_the_innermost_directory_of_all_objects() -> None:
    assert paths.adopted_root(["s3://b/v/1/a", "s3://b/v/2/a"]) == "s3://b/v"
    assert paths.adopted_root(["s3://b/a"]) == "s3://b"
    assert paths.adopted_root(["file:///data/a/x", "file:///data/ab/x"]) == "file:///data"
    with pytest.raises(FormatError, match="cannot be adopted"):
        paths.adopted_root(["s3://b/v/../a"])
