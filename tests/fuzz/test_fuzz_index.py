"""Damaged FAISS files, under a manifest that names their hash: FAISS itself trusts much of what it reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.errors import StoreError
from fct_ray.index.build import ShardIndexBuilder, train_index
from fct_ray.index.factory import needs_training
from fct_ray.kinds import Metric
from fct_ray.workflows.search import open_searcher
from tests.fuzz.damage import budget, damaged
from tests.fuzz.outcome import Child, replaced
from tests.fuzz.small_store import ROWS, D

FACTORIES = ("Flat", "IVF4,Flat", "IVF4,PQ4x4", "HNSW8", "IVF4,SQ8", "OPQ4,IVF4,PQ4x4", "Flat,RFlat", "IVF4,PQ4x4fs")


@lru_cache
def _built(factory: str) -> bytes:
    rows = np.random.default_rng(1).normal(size=(300, D)).astype(np.float32)
    trained = train_index(factory, D, Metric.IP, rows, seed=0) if needs_training(factory) else None
    builder = ShardIndexBuilder(trained, factory, D, Metric.IP)
    builder.add(np.arange(ROWS, 2 * ROWS), rows[:ROWS])
    return builder.finish()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("factory", FACTORIES)
@budget(40)
@given(data=st.data())
def test_a_damaged_index_is_searched_or_refused(child: Child, factory: str, data: st.DataObject) -> None:
    whole = _built(factory)
    head = data.draw(st.sampled_from([200, len(whole)]))
    child.run("index", data.draw(damaged(whole[:head]), label=factory) + whole[head:])


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_undamaged_indexes_work(child: Child, factory: str) -> None:
    assert child.run("index", _built(factory))


def test_an_index_whose_parts_contradict_each_other_is_refused(child: Child) -> None:
    """Seen before this was checked: an HNSW file whose inner metric was another one never came back from a search."""
    whole = bytearray(_built("HNSW8"))
    whole[70] ^= 1 << 2
    assert not child.run("index", bytes(whole))


@pytest.mark.parametrize("block", [0, 288])
def test_a_fast_scan_index_with_blocks_that_faiss_has_no_code_for_is_refused(child: Child, block: int) -> None:
    """Seen before this was checked: a search ended the process (288: an exception in a thread of FAISS; 0: a division)."""
    index: Any = faiss.deserialize_index(np.frombuffer(_built("IVF4,PQ4x4fs"), np.uint8))
    assert index.bbs == 32
    index.bbs = block
    assert not child.run("index", bytes(faiss.serialize_index(index)))


def test_an_index_file_that_changed_after_publishing_is_refused_before_faiss_reads_it(store: Path) -> None:
    path = store / "versions/000002/index/00001.faiss"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with replaced(path, bytes(data)), pytest.raises(StoreError, match=r"00001\.faiss: sha256 is .*the manifest says"):
        open_searcher(str(store), "now-api")
