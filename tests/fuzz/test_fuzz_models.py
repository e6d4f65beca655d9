"""Damaged model files: documents, architectures that claim anything, weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.damage import altered, budget, damaged
from tests.fuzz.outcome import Child
from tests.fuzz.small_store import packed_transformation

PACKED = packed_transformation()
ARCHITECTURE = PACKED.document.architecture
HUGE: list[dict[str, Any]] = [
    {"inner": 2**24},
    {"inner": 2**40},
    {"new_dimension": 2**31, "old_dimension": 2**31},
    {"kind": "linear", "old_dimension": 10**30},
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fields", [False, True])
@budget(60)
@given(data=st.data())
def test_a_damaged_document_is_loaded_or_refused(child: Child, fields: bool, data: st.DataObject) -> None:
    strategy = altered(PACKED.model_json) if fields else damaged(PACKED.model_json)
    child.run("model_json", data.draw(strategy))


@pytest.mark.timeout(3600)
@budget(60)
@given(data=st.data())
def test_damaged_weights_under_their_own_hash_are_loaded_or_refused(child: Child, data: st.DataObject) -> None:
    whole = PACKED.weights
    child.run("weights", data.draw(damaged(whole[:1200])) + whole[1200:])


@pytest.mark.timeout(3600)
@budget(60)
@given(data=st.data())
def test_an_altered_architecture_under_its_own_fingerprint_is_loaded_or_refused(
    child: Child, data: st.DataObject
) -> None:
    text = data.draw(altered(json.dumps(ARCHITECTURE).encode()).filter(lambda text: isinstance(_parsed(text), dict)))
    child.run("architecture", text)


@pytest.mark.parametrize("changes", HUGE)
def test_an_architecture_that_would_not_fit_into_memory_is_refused_before_it_is_built(
    child: Child, changes: dict[str, Any]
) -> None:
    assert not child.run("architecture", json.dumps(ARCHITECTURE | changes).encode())


def test_the_undamaged_model_works(child: Child) -> None:
    assert child.run("model_json", PACKED.model_json)
    assert child.run("weights", PACKED.weights)
    assert child.run("architecture", json.dumps(ARCHITECTURE).encode())


@pytest.mark.parametrize("name", ["s3://another-bucket/h", "file:///tmp/h", "../h", "a/b", ".h", "a\n"])
def test_a_model_whose_name_would_lead_out_of_models_is_refused(child: Child, name: str) -> None:
    content = dataclasses.asdict(dataclasses.replace(PACKED.document, name=name))
    assert not child.run("model_json", json.dumps(content).encode())


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
