"""What a collection may delete, decided on paper."""

from __future__ import annotations

import dataclasses

from fct_ray.plan.collection import Collected, collection, deletion_order, holding_deleted, owner_of
from fct_ray.values import Manifest, ObjectRef, TransformationRef
from tests.plan.manifests import parent_manifest


def _version(number: int, parent: int | None, run: str, written_by: dict[int, int]) -> Manifest:
    """A version whose shard k lies in the directory of version `written_by[k]`."""
    base = parent_manifest(num_shards=len(written_by))
    shards = tuple(
        dataclasses.replace(
            record,
            embeddings=ObjectRef(path=_shard(written_by[record.shard], record.shard), bytes=1, sha256="x"),
        )
        for record in base.shards
    )
    return dataclasses.replace(base, version=number, parent=parent, run=run, shards=shards)


def _shard(version: int, shard: int) -> str:
    return f"versions/{version:06d}/shards/{shard:05d}.parquet"


V1 = _version(1, None, "embed-1", {0: 1, 1: 1})
V2 = _version(2, 1, "append-2", {0: 1, 1: 1, 2: 2})
V3 = _version(3, 2, "delete-3", {0: 1, 1: 3, 2: 2})
V5 = _version(5, 3, "upgrade-4", {0: 4, 1: 5, 2: 4})  # worked in 4, caught up with 3 in 5
ALL = {1: V1, 2: V2, 3: V3, 5: V5}
CLAIMS = {1: "embed-1", 2: "append-2", 3: "delete-3", 4: "upgrade-4", 5: "upgrade-4", 6: "upgrade-6"}
LITTER = [
    "versions/000004/shards/.00001.parquet.ab.tmp", "versions/000006/shards/.00001.parquet.cd.tmp",
    "runs/upgrade-4/.pairs.parquet.ab.tmp", "runs/upgrade-6/fit/.x.ab.tmp", "leases/.publish.json.ab.tmp",
]  # fmt: skip
PATHS = [
    *(f"versions/{number:06d}/{name}" for number in ALL for name in ("manifest.json", "run.json")),
    *(record.embeddings.path for manifest in ALL.values() for record in manifest.shards),
    _shard(4, 1),  # of shard 1 before the deletion: nothing refers to it
    "versions/000004/run.json", "versions/000006/run.json", _shard(6, 0),
    "runs/upgrade-4/pairs.parquet", "runs/upgrade-4/usage/fit-0000.json", "runs/upgrade-4/report/report.json",
    "runs/upgrade-6/pairs.parquet", "leases/publish.json", "leases/reader-a.json", "leases/reader-b.json",
]  # fmt: skip


def _collected(
    current: int = 5,
    keep: int = 1,
    purge: bool = False,
    pinned: dict[int, str] | None = None,
    live: tuple[str, ...] = (),
) -> Collected:
    return collection(
        ALL,
        current=current,
        keep=keep,
        purge=purge,
        pinned=pinned or {},
        live=live,
        claims=CLAIMS,
        litter=LITTER,
        paths=PATHS,
    )


def test_current_and_its_parent_stay_with_every_object_they_refer_to_wherever_it_lies() -> None:
    found = _collected()
    assert found.kept == {5: "CURRENT", 3: "parent of CURRENT"}
    assert found.versions == (1, 2)
    for kept in (_shard(1, 0), _shard(3, 1), _shard(2, 2), _shard(4, 0), _shard(5, 1), "versions/000004/run.json"):
        assert kept not in found.paths
    for gone in (_shard(1, 1), _shard(4, 1), "versions/000001/manifest.json"):
        assert gone in found.paths


def test_the_newest_versions_and_those_in_use_stay() -> None:
    assert set(_collected(keep=3).kept) == {5, 3, 2}
    found = _collected(pinned={1: "a reader of version 1", 9: "nothing"})
    assert found.kept[1] == "in use by a reader of version 1"
    assert set(_collected(current=2, keep=0).kept) == {2, 1}


def test_what_runs_left_goes_but_for_figures_and_for_runs_at_work() -> None:
    gone = _collected().paths
    assert {"runs/upgrade-4/pairs.parquet", "runs/upgrade-6/pairs.parquet", _shard(6, 0)} <= set(gone)
    assert not {"runs/upgrade-4/usage/fit-0000.json", "runs/upgrade-4/report/report.json"} & set(gone)
    gone = _collected(live=("upgrade-6",)).paths
    assert not {"runs/upgrade-6/pairs.parquet", _shard(6, 0), "versions/000006/run.json"} & set(gone)


def test_litter_of_runs_that_ended_goes() -> None:
    everything = ("runs/upgrade-4", "runs/upgrade-6", "versions/000004", "versions/000006")
    assert _collected().litter_in == everything
    assert _collected(live=("upgrade-6",)).litter_in == ("runs/upgrade-4", "versions/000004")


def test_an_object_belongs_to_the_run_that_claimed_its_directory() -> None:
    owners = {
        _shard(4, 1): "upgrade-4",
        "versions/000006/run.json": "upgrade-6",
        "runs/upgrade-4/pairs.parquet": "upgrade-4",
        "versions/000009/shards/00000.parquet": None,
        "versions/strange/x": None,
        "leases/reader-b.json": None,
    }
    assert {path: owner_of(path, CLAIMS) for path in owners} == owners


def test_documents_that_name_others_go_first_and_claims_last() -> None:
    documents = ("runs/u/fit/h.json", "runs/u/run.json", "versions/000006/receipts/00000.json")
    data = ("versions/000006/index/00000.faiss", "versions/000006/shards/00000.parquet")
    claims = ("versions/000006/run.json",)
    assert deletion_order([*claims, *data, *documents]) == (documents, data, claims)
    assert deletion_order(["runs/u/pairs.parquet"]) == (("runs/u/pairs.parquet",),)


def test_leases_of_readers_that_ended_go_and_all_others_stay() -> None:
    gone = _collected(live=("reader-a",)).paths
    assert "leases/reader-b.json" in gone
    assert not {"leases/reader-a.json", "leases/publish.json"} & set(gone)


def test_versions_that_hold_deleted_items_are_named_and_purged_only_when_asked() -> None:
    assert holding_deleted(ALL, 5) == {1, 2}
    at_deletion = _collected(current=3)
    assert at_deletion.holding_deleted == (2,)
    assert 2 in at_deletion.kept
    purged = _collected(current=3, purge=True)
    assert set(purged.kept) == {3, 5}, "5 was made after the deletion and holds none of its items"
    assert purged.holding_deleted == ()
    assert _collected(current=3, purge=True, pinned={2: "a reader"}).holding_deleted == (2,)


def test_older_versions_count_as_holding_deleted_items_where_the_past_is_not_known() -> None:
    without_3 = {1: V1, 5: V5}
    assert holding_deleted(without_3, 5) == {1}


def test_a_store_without_deletions_holds_none() -> None:
    assert holding_deleted({1: V1, 2: V2}, 2) == set()


def test_a_purge_deletes_true_vectors_that_may_be_of_deleted_items() -> None:
    """They lie beside models, of which nothing else is ever collected."""

    def made(version: Manifest, fingerprint: str) -> Manifest:
        ref = TransformationRef(name="h", fingerprint=fingerprint, from_encoder="a", to_encoder="b")
        return dataclasses.replace(version, transformation=ref)

    v1 = _version(1, None, "embed-1", {0: 1})
    v2 = made(_version(2, 1, "upgrade-2", {0: 2}), "a" * 64)
    v3 = made(_version(3, 2, "delete-3", {0: 3}), "a" * 64)
    v5 = made(_version(5, 3, "upgrade-4", {0: 5}), "b" * 64)
    files = [f"models/h-x-{letter * 12}/true_vectors.parquet" for letter in "abc"]

    def gone(manifests: list[Manifest], purge: bool, claims: dict[int, str]) -> set[str]:
        by_number = {manifest.version: manifest for manifest in manifests}
        found = collection(
            by_number, current=max(by_number), keep=1, purge=purge, pinned={}, live=(), claims=claims, litter=[],
            paths=files,
        )  # fmt: skip
        return set(found.paths)

    claims = {1: "embed-1", 2: "upgrade-2", 3: "delete-3", 5: "upgrade-4"}
    assert gone([v1, v2, v3], False, claims) == set(), "only a purge deletes them"
    assert gone([v1, v2], True, claims) == set(files[1:]), "nothing was deleted from what they are of"
    assert gone([v1, v2, v3], True, claims) == set(files)
    assert gone([v1, v2, v3, v5], True, claims) == {files[0], files[2]}
    caught_up = {**claims, 4: "upgrade-4"}
    assert gone([v1, v2, v3, v5], True, caught_up) == set(files), "it caught up with a deletion"
    files.append("versions/000004/run.json")
    assert gone([v1, v2, v3, v5], False, caught_up) == set(), "the claim that tells of it outlives a collection"
