"""What remains to do, what the run is called, and when a manifest may be made."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.plan.identity import run_id
from fct_ray.plan.resume import (
    done_receipts,
    shard_numbers_to_do,
    shards_to_do,
    usage_of,
)
from fct_ray.plan.versions import adopted_manifest, embedded_manifest, upgraded_manifest
from fct_ray.values import Manifest, Receipt, TransformationRef, Usage
from tests.plan.manifests import FLAT, NEW, OLD, SIDE, parent_manifest, parent_record, receipt

PARENT = parent_manifest()
ALL = [receipt(shard) for shard in range(3)]


def _upgraded(receipts: list[Receipt], *, version: int = 2) -> Manifest:
    return upgraded_manifest(
        PARENT,
        version=version,
        created_at="2026-01-02T00:00:00Z",
        encoder=NEW,
        dimension=64,
        metric=Metric.IP,
        normalized=True,
        transformation=TransformationRef(
            name="h", fingerprint="d" * 64, from_encoder=OLD.fingerprint, to_encoder=NEW.fingerprint
        ),
        index=FLAT,
        receipts=receipts,
        gate=None,
        run="upgrade-1",
    )


def test_a_fresh_run_has_everything_to_do_and_a_finished_one_nothing() -> None:
    assert shards_to_do(PARENT.shards, []) == list(PARENT.shards)
    assert shards_to_do(PARENT.shards, ALL) == []


def test_a_killed_run_does_only_what_has_no_receipt() -> None:
    assert [record.shard for record in shards_to_do(PARENT.shards, [ALL[1]])] == [0, 2]
    assert shard_numbers_to_do(4, [ALL[1], ALL[2]]) == [0, 3]


def test_a_shard_whose_input_changed_is_done_again() -> None:
    stale = receipt(0, input_sha256="something else")
    unknown = receipt(1, input_sha256=None)
    assert [record.shard for record in shards_to_do(PARENT.shards, [stale, unknown, ALL[2]])] == [0, 1]
    assert done_receipts(PARENT.shards, [stale, unknown, ALL[2]]) == [ALL[2]]


def test_usage_is_the_sum_over_receipts_in_any_order() -> None:
    expected = Usage(wall_s=4.5, rows=100 + 101 + 102, bytes_read=21)
    assert usage_of(ALL) == usage_of(reversed(ALL)) == expected
    assert usage_of([]) == Usage()


def test_a_run_is_named_by_the_hash_of_its_settings() -> None:
    expected = hashlib.sha256(b'["a","b c"]').hexdigest()[:12]
    assert run_id("upgrade", "a", "b c") == f"upgrade-{expected}"
    assert len({run_id("x", "ab", "c"), run_id("x", "a", "bc"), run_id("x", "c", "ab"), run_id("y", "ab", "c")}) == 4
    with pytest.raises(SettingsError, match="lower-case"):
        run_id("Up grade")


def test_a_complete_ledger_becomes_a_manifest_in_shard_order() -> None:
    manifest = _upgraded([ALL[2], ALL[0], ALL[1]])
    assert [record.shard for record in manifest.shards] == [0, 1, 2]
    assert (manifest.parent, manifest.version, manifest.num_rows) == (1, 2, 303)
    assert manifest.side_info == SIDE
    assert manifest == _upgraded(ALL)


@pytest.mark.parametrize(
    ("receipts", "message"),
    [
        (ALL[:1], r"2 of 3 shards have no receipt: 1, 2"),
        ([*ALL, ALL[1]], "more than one receipt for shards: 1"),
        ([*ALL, receipt(7)], "does not have: 7"),
        ([receipt(0, rows=99), *ALL[1:]], "shard 0 has 99 rows, wanted 100"),
        ([receipt(0, id_max=5), *ALL[1:]], "shard 0 has ids 0 to 5, wanted 0 to 999"),
        ([receipt(0, input_sha256="other"), *ALL[1:]], "shard 0 was made from input other, wanted in0"),
        ([receipt(0, index=None), *ALL[1:]], "shard 0 has no index, the version wants 'Flat'"),
        ([receipt(0, counts={"transformed": 1}), *ALL[1:]], "do not sum to its 100 rows"),
        ([receipt(0, run="upgrade-9"), *ALL[1:]], "receipts of other runs"),
    ],
)
def test_an_incomplete_or_foreign_ledger_makes_no_manifest(receipts: list[Receipt], message: str) -> None:
    with pytest.raises(IncompleteRunError, match=message):
        _upgraded(receipts)


def test_a_version_number_must_grow() -> None:
    with pytest.raises(SettingsError, match="above the parent's 1"):
        _upgraded(ALL, version=1)


def _embedded(num_shards: int, num_rows: int) -> Manifest:
    return embedded_manifest(
        version=1,
        created_at="2026-01-01T00:00:00Z",
        encoder=OLD,
        dimension=32,
        metric=Metric.L2,
        normalized=False,
        side_info=SIDE,
        index=FLAT,
        receipts=ALL,
        num_shards=num_shards,
        num_rows=num_rows,
        run="upgrade-1",
    )


def test_a_full_backfill_is_complete_with_all_its_shards_and_rows() -> None:
    assert _embedded(3, 303).num_rows == 303
    with pytest.raises(IncompleteRunError, match="1 of 4 shards have no receipt: 3"):
        _embedded(4, 303)
    with pytest.raises(IncompleteRunError, match="303 rows, wanted 304"):
        _embedded(3, 304)


def _adopted(records: list[object]) -> Manifest:
    return adopted_manifest(
        version=1,
        created_at="2026-01-01T00:00:00Z",
        encoder=OLD,
        dimension=32,
        metric=Metric.IP,
        normalized=True,
        side_info=None,
        records=records,  # type: ignore[arg-type]
        run="adopt-1",
    )


def test_adopting_takes_objects_where_they_lie_once_each() -> None:
    assert _adopted([parent_record(1), parent_record(0)]).num_rows == 201
    twice = dataclasses.replace(parent_record(0), shard=1)
    with pytest.raises(SettingsError, match="two shards"):
        _adopted([parent_record(0), twice])
    with pytest.raises(SettingsError, match="0 rows to adopt"):
        _adopted([])
    with pytest.raises(IncompleteRunError, match="have no receipt: 1"):
        _adopted([parent_record(0), parent_record(2)])
