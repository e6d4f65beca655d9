"""What a manifest says of keys, of other names of columns and of parts of objects: written only where it is so."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from fct_ray.errors import FormatError
from fct_ray.kinds import KeyType
from fct_ray.plan.versions import adopted_manifest, edited_manifest, upgraded_manifest
from fct_ray.storage import documents
from fct_ray.storage.manifest_checks import check_manifest, load_manifest
from fct_ray.values import AdoptedLayout, Manifest, ObjectRef, ShardRecord, TransformationRef
from tests.conftest import ROOT
from tests.plan.manifests import FLAT, NEW, OLD, parent_manifest, receipt

PLACE = "file:///data/gallery"
H = TransformationRef(name="h", fingerprint="d" * 64, from_encoder="a" * 64, to_encoder="b" * 64)
LAYOUT = AdoptedLayout(id="doc_id", embedding="emb", truncate=32, normalize=True)


def _part(shard: int, start: int, stop: int) -> ShardRecord:
    """A range of rows of one object, 10 bytes for each row, ids from 0 on."""
    ref = ObjectRef(
        path=f"{PLACE}/all.parquet",
        bytes=10 * (stop - start),
        sha256=f"in{shard}",
        rows=(start, stop),
        byte_range=(10 * start + 4, 10 * stop + 4),
    )
    first = parent_manifest().shards[0]
    return dataclasses.replace(
        first, shard=shard, embeddings=ref, rows=stop - start, id_min=start, id_max=stop - 1, counts={}
    )


def _adopted(**changes: Any) -> Manifest:
    arguments: dict[str, Any] = {"keys": KeyType.UUID, "layout": LAYOUT, **changes}
    return adopted_manifest(
        version=1,
        created_at="2026-01-01T00:00:00Z",
        encoder=OLD,
        dimension=32,
        metric=parent_manifest().metric,
        normalized=True,
        side_info=None,
        records=[_part(0, 0, 30), _part(1, 30, 50)],
        run="adopt-1",
        adopted_from=PLACE,
        **arguments,
    )


def test_a_manifest_with_keys_a_layout_and_parts_of_an_object_comes_back_equal() -> None:
    manifest = check_manifest(_adopted(), "uri")
    data = documents.dump(manifest)
    assert load_manifest(data, "uri", 1) == manifest
    written = json.loads(data)
    assert (written["format_version"], written["keys"]) == (3, "uuid")
    assert written["adopted"]["id"] == "doc_id"
    assert written["shards"][1]["embeddings"]["rows"] == [30, 50]
    assert written["shards"][1]["embeddings"]["byte_range"] == [304, 504]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_manifest_without_them_keeps_the_bytes_that_earlier_releases_wrote(version: int) -> None:
    path = ROOT / f"tests/storage/written_before/format_1/versions/{version:06d}/manifest.json"
    manifest = load_manifest(path.read_bytes(), "uri", version)
    assert (manifest.keys, manifest.adopted, manifest.format_version) == (None, None, 1)
    written = json.loads(documents.dump(manifest))
    assert {"keys", "adopted"}.isdisjoint(written)
    assert {name for record in written["shards"] for name in record["embeddings"]} == {"path", "bytes", "sha256"}


@pytest.mark.parametrize(
    "changes", [{"keys": None, "layout": None}, {"keys": None}, {"layout": None}, {"keys": KeyType.STRING}]
)
def test_each_of_them_alone_makes_format_3(changes: dict[str, Any]) -> None:
    assert check_manifest(_adopted(**changes), "uri").format_version == 3  # parts of an object are enough


def test_an_upgrade_keeps_keys_and_forgets_how_adopted_objects_were_read() -> None:
    parent = dataclasses.replace(parent_manifest(), keys=KeyType.STRING, adopted_from=(PLACE,), adopted=LAYOUT)
    upgraded = upgraded_manifest(
        parent.with_format_version(),
        version=2,
        created_at="2026-01-01T00:00:00Z",
        encoder=NEW,
        dimension=64,
        metric=parent.metric,
        normalized=True,
        transformation=H,
        index=FLAT,
        receipts=[receipt(shard) for shard in range(3)],
        gate=None,
        run="upgrade-1",
    )
    assert (upgraded.keys, upgraded.adopted, upgraded.format_version) == (KeyType.STRING, None, 3)
    assert check_manifest(upgraded, "uri") == upgraded


def test_a_version_whose_last_adopted_shard_is_rewritten_has_no_layout_and_without_keys_is_format_1() -> None:
    parent = _adopted(keys=None)
    edited = edited_manifest(
        parent,
        version=2,
        created_at="2026-01-01T00:00:00Z",
        receipts=[receipt(0, run="delete-1", rows=30, counts={}, index=None, input_sha256="in0", id_min=0, id_max=29)],
        written=[0],
        dropped=[1],
        num_rows=30,
        run="delete-1",
    )
    assert (edited.adopted, edited.adopted_from, edited.format_version) == (None, (), 1)
    assert check_manifest(edited, "uri") == edited


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": 1}, "format_version 1 with 0 query embeddings, keys uuid and a layout.*wanted 3"),
        ({"adopted_from": ()}, "adopted_from is empty"),
        ({"adopted": dataclasses.replace(LAYOUT, truncate=16)}, "adopted.truncate is 16; wanted the dimension 32"),
        ({"adopted": dataclasses.replace(LAYOUT, label="emb")}, "names one column twice"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        check_manifest(dataclasses.replace(_adopted(), **changes), "uri")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rows": None}, "rows None and byte_range .*; wanted both or none"),
        ({"byte_range": None}, "byte_range None; wanted both or none"),
        ({"rows": (0, 29)}, "rows 0 to 29; wanted 30 of them"),
        ({"byte_range": (4, 305)}, "byte_range 4 to 305; wanted 300 of them"),
        ({"path": "versions/000001/shards/0.parquet"}, "a part of an object of the store"),
    ],
)
def test_a_part_of_an_object_that_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    manifest = _adopted()
    first = dataclasses.replace(
        manifest.shards[0], embeddings=dataclasses.replace(manifest.shards[0].embeddings, **changes)
    )
    with pytest.raises(FormatError, match=complaint):
        check_manifest(dataclasses.replace(manifest, shards=(first, manifest.shards[1])), "uri")


def test_where_adopted_objects_have_no_ids_of_their_own_each_row_has_one() -> None:
    manifest = _adopted()
    first = dataclasses.replace(manifest.shards[0], id_max=30)
    with pytest.raises(FormatError, match="shard 0 has 30 rows, ids 0 to 30; wanted one id for each row"):
        check_manifest(dataclasses.replace(manifest, shards=(first, manifest.shards[1])), "uri")
