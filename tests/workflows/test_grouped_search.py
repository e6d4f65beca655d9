"""The best item of each group, against brute force; groups that are missing, null, or of one item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError
from fct_ray.kinds import KeyType
from fct_ray.storage import pairs
from fct_ray.workflows.search import Searcher, SearchSettings, open_searcher, search_file
from tests.fashion_vectors import fixed_size_list
from tests.keyed_stores import ENCODER, keyed_store, uuids

NUM_ITEMS = 60
KEYS = uuids(NUM_ITEMS)
DOCUMENTS: list[str | None] = [f"doc {number // 7}" for number in range(NUM_ITEMS - 2)] + [None, None]
VECTORS_ND = np.random.default_rng(2).normal(size=(NUM_ITEMS, 8)).astype(np.float32)
QUERIES_QD = VECTORS_ND[[3, 59, 20]]


@pytest.fixture
def searcher(tmp_path: Path) -> Searcher:
    shards = [KEYS[:25], KEYS[25:40], KEYS[40:]]
    keyed_store(tmp_path, shards, KeyType.UUID, VECTORS_ND, carried={"document": DOCUMENTS})
    return open_searcher(str(tmp_path), ENCODER)


def _expected(query: np.ndarray) -> list[int]:
    """The best item of every group, best first."""
    seen, best = set[object](), []
    for row in np.argsort(-(VECTORS_ND @ query)).tolist():
        group = DOCUMENTS[row] if DOCUMENTS[row] is not None else row
        if group not in seen:
            seen.add(group)
            best.append(row)
    return best


@pytest.mark.parametrize("k", [1, 4, 11, 20])
def test_each_group_is_found_by_its_best_item_and_items_without_one_stand_alone(searcher: Searcher, k: int) -> None:
    found = searcher.search_groups(QUERIES_QD, "document", k)
    for query, ids_K in zip(QUERIES_QD, found.ids_QK.tolist(), strict=True):
        expected = _expected(query)[:k]  # 9 documents and 2 items of none
        assert ids_K == expected + [-1] * (k - len(expected))
    groups = found.groups.to_pylist()
    assert groups == [None if row < 0 else DOCUMENTS[row] for row in found.ids_QK.ravel().tolist()]
    there = found.ids_QK >= 0
    assert (np.diff(np.where(there, found.scores_QK, -np.inf)[:, : there.sum(axis=1).min()]) <= 0).all()
    assert (found.scores_QK[~there] == -np.inf).all()


def test_a_file_of_results_names_the_groups(searcher: Searcher, tmp_path: Path) -> None:
    queries, output = str(tmp_path / "queries.parquet"), str(tmp_path / "found.parquet")
    pq.write_table(pa.table({"id": [7, 8, 9], "embedding": fixed_size_list(QUERIES_QD)}), queries)
    store = searcher.store.uri
    search_file(SearchSettings(store=store, queries=queries, encoder=ENCODER, output=output, k=4, group="document"))
    table = pairs.read_table(output)
    rows = [_expected(query)[:4] for query in QUERIES_QD]
    assert table["group"].to_pylist() == [DOCUMENTS[row] for found in rows for row in found]
    assert table["id"].to_pylist() == [KEYS[row].bytes for found in rows for row in found]
    with pytest.raises(FormatError, match="0 columns named 'title'"):
        searcher.search_groups(QUERIES_QD, "title")
