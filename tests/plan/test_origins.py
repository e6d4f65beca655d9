"""A shard's receipts are followed back to where its rows were embedded, through deletions, appends and upgrades."""

from __future__ import annotations

import dataclasses

from fct_ray.kinds import Provenance
from fct_ray.plan.origins import embedding_receipts
from fct_ray.values import ObjectRef, Receipt, ShardRecord, Usage


def _receipt(made: str, made_from: str | None, run: str = "embed-1") -> Receipt:
    record = ShardRecord(
        shard=0,
        embeddings=ObjectRef(path=f"{made}.parquet", bytes=1, sha256=made),
        index=None,
        rows=10,
        id_min=0,
        id_max=9,
        provenance=Provenance.EMBEDDED,
        input_sha256=made_from,
    )
    return Receipt(run=run, record=record, usage=Usage(rows=10), peak_memory_bytes=0, worker="n:1")


EMBEDDED, APPENDED = _receipt("a", None), _receipt("x", None, "append-1")
DELETED, UPGRADED = _receipt("b", "a", "delete-1"), _receipt("c", "b", "upgrade-1")


def test_a_shard_that_lived_through_a_deletion_and_an_upgrade_leads_back_to_its_embedding() -> None:
    found = embedding_receipts([UPGRADED.record, APPENDED.record], [UPGRADED, EMBEDDED, APPENDED, DELETED])
    assert found == [EMBEDDED, APPENDED]


def test_one_beginning_is_counted_once() -> None:
    twin = dataclasses.replace(DELETED.record, shard=1)
    assert embedding_receipts([DELETED.record, twin], [EMBEDDED, DELETED]) == [EMBEDDED]


def test_an_unknown_beginning_makes_the_whole_unknown() -> None:
    assert embedding_receipts([EMBEDDED.record, UPGRADED.record], [EMBEDDED, UPGRADED]) is None
    assert embedding_receipts([_receipt("adopted", None).record], [EMBEDDED]) is None
