"""A manifest that contradicts itself is refused, so that nobody reckons with its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fct_ray.errors import FormatError
from fct_ray.storage.manifest_checks import MAX_DIMENSION, check_manifest
from fct_ray.values import IndexRef, ObjectRef, SideInfoRef
from tests.plan.manifests import parent_manifest

SIDE = SideInfoRef(name="s", fingerprint="f", dimension=3)


def test_a_manifest_as_jobs_write_it_is_accepted() -> None:
    assert check_manifest(parent_manifest(), "uri") == parent_manifest()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 0}, "version 0 with parent None"),
        ({"version": 3, "parent": 3}, "version 3 with parent 3"),
        ({"run": "../../models"}, "run is"),
        ({"dimension": 0}, "dimension is 0; wanted 1 to"),
        ({"dimension": MAX_DIMENSION + 1}, "dimension is 1048577"),
        ({"side_info": dataclasses.replace(SIDE, dimension=-1)}, "dimension -1"),
        ({"side_info": dataclasses.replace(SIDE, dtype="object")}, "'object'"),
        ({"num_rows": 2**60}, "num_rows is 1,152,921,504,606,846,976; wanted 303, the sum"),
        ({"shards": parent_manifest().shards * 2}, "6 shards have 3 different numbers"),
        ({"index": IndexRef(factory="Flat")}, "shard 0 has no index; wanted one"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FormatError, match=rf"s3://b/m: .*{complaint}.*rollback"):
        check_manifest(dataclasses.replace(parent_manifest(), **changes), "s3://b/m")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rows": -1}, "-1 rows"),
        ({"id_min": 5, "id_max": 4}, "ids 5 to 4"),
        ({"index": ObjectRef(path="versions/000001/index/0", bytes=1, sha256="a")}, "an index; wanted none"),
        ({"embeddings": ObjectRef(path="versions/000001/shards/0", bytes=-1, sha256="a")}, "-1 bytes"),
    ],
)
def test_a_shard_that_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    record = dataclasses.replace(parent_manifest().shards[0], **changes)
    manifest = dataclasses.replace(parent_manifest(), shards=(record,), num_rows=record.rows)
    with pytest.raises(FormatError, match=complaint):
        check_manifest(manifest, "uri")
