"""Damaged CURRENT, manifests and receipts: every reader works or says clearly what is wrong, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.cli.version_tables import print_history, print_status
from fct_ray.errors import FctRayError
from fct_ray.plan.resume import usage_of
from fct_ray.storage.store import Store
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.settings import GateSettings, UpgradeSettings
from tests.fuzz.conftest import hashes
from tests.fuzz.damage import DEEP, altered, budget, damaged
from tests.fuzz.outcome import pointing_at, refusal, replaced

DOCUMENTS = (
    "CURRENT.json",
    "versions/000001/manifest.json",
    "versions/000002/manifest.json",
    "versions/000002/receipts/00000.json",
)
CASES = [(name, way) for name in DOCUMENTS for way in ("bytes", "fields")] + [(DOCUMENTS[2], "CURRENT follows")]


def plan(store: Path, encoder: str) -> None:
    """What `jobs/upgrade.py --plan` does."""
    pairs, model = str(store.parent / "pairs.parquet"), next((store / "models").iterdir())
    for transformation in (None, str(model)):
        settings = UpgradeSettings(
            store=str(store), encoder=encoder, pairs=pairs, transformation=transformation, gate=GateSettings(share=0.5)
        )
        plan_upgrade(settings, 0.1, None)


READERS: tuple[Callable[[Path], object], ...] = (
    lambda store: print_status(Store(str(store)).manifest(), "store"),
    lambda store: print_history(Store(str(store)).history(), Store(str(store)).current()),
    lambda store: usage_of(Store(str(store)).ledger("upgrade-2")),
    lambda store: plan(store, "next-api"),
    lambda store: open_searcher(str(store), "now-api").search(np.eye(2, 8, dtype=np.float32), 5),
    lambda store: open_searcher(str(store), "old-api").search(np.eye(2, 8, dtype=np.float32), 5),
)


def read_all(store: Path) -> list[str]:
    """The refusals of all readers."""
    return [message for read in READERS if (message := refusal(read, store))]


def test_the_undamaged_store_is_refused_by_the_reader_with_the_wrong_encoder_only(store: Path) -> None:
    (refusal,) = read_all(store)
    assert "old-api" in refusal


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "way"), CASES)
@budget(30)
@given(data=st.data())
def test_a_damaged_document_is_read_or_refused_and_the_store_unchanged(
    store: Path, name: str, way: str, data: st.DataObject
) -> None:
    whole = (store / name).read_bytes()
    changed = data.draw(damaged(whole) if way == "bytes" else altered(whole), label=name)
    with ExitStack() as damage:
        damage.enter_context(replaced(store / name, changed))
        if way == "CURRENT follows":
            damage.enter_context(replaced(store / "CURRENT.json", pointing_at(store, changed)))
        before = hashes(store)
        read_all(store)
        assert hashes(store) == before


@pytest.mark.parametrize("document", [DEEP.encode(), b"[" * 100_000, b"9" * 5000, b"", b"\xff\xfe", b"null", b"NaN"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_no_document_is_refused_by_every_reader_that_needs_it(store: Path, name: str, document: bytes) -> None:
    with replaced(store / name, document):
        assert len(read_all(store)) >= 2
        if name == DOCUMENTS[2]:
            with replaced(store / "CURRENT.json", pointing_at(store, document)):
                assert len(read_all(store)) >= 4


def test_a_number_beyond_64_bits_in_a_receipt_is_refused_by_its_field(store: Path) -> None:
    path = store / DOCUMENTS[3]
    receipt = json.loads(path.read_text()) | {"peak_memory_bytes": 2**64}
    with replaced(path, json.dumps(receipt).encode()), pytest.raises(FctRayError, match="peak_memory_bytes"):
        Store(str(store)).ledger("upgrade-2")
