"""A searcher answers with keys; it reads columns of keys when they are needed, keeps them, and reads nothing else."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError
from fct_ray.key_types import to_python
from fct_ray.kinds import KeyType
from fct_ray.storage import pairs, s3_objects
from fct_ray.workflows.found_keys import FoundKeys
from fct_ray.workflows.search import SearchSettings, open_searcher, search_file
from tests.fashion_vectors import fixed_size_list
from tests.keyed_stores import ENCODER, keyed_store, uuids

KEYS = uuids(30)
SHARDS = [KEYS[:10], KEYS[10:20], KEYS[20:]]
VECTORS_ND = np.random.default_rng(5).normal(size=(30, 8)).astype(np.float32)


def test_search_gives_keys_and_none_where_the_gallery_has_fewer_items(tmp_path: Path) -> None:
    keyed_store(tmp_path, SHARDS, KeyType.UUID, VECTORS_ND)
    searcher = open_searcher(str(tmp_path), ENCODER)
    scores_QK, keys_QK = searcher.search(VECTORS_ND[[3, 25]], k=31)
    _, ids_QK = searcher.search_ids(VECTORS_ND[[3, 25]], k=31)
    assert scores_QK.shape == keys_QK.shape == (2, 31)
    nearest_Q = np.argsort(-(VECTORS_ND[[3, 25]] @ VECTORS_ND.T), axis=1)
    assert keys_QK[:, :30].tolist() == [[KEYS[row] for row in rows] for rows in nearest_Q]
    assert keys_QK[:, 30].tolist() == [None, None]
    assert (ids_QK[:, 30] == -1).all()
    assert isinstance(keys_QK[0, 0], uuid.UUID)


@pytest.mark.parametrize(
    ("key_type", "keys", "wanted"),
    [
        (KeyType.STRING, [f"d-{number}" for number in range(30)], pa.string()),
        (KeyType.UUID, KEYS, pa.binary(16)),
        (KeyType.BINARY, [bytes([number]) for number in range(30)], pa.binary()),
    ],
)
def test_a_file_of_results_has_ids_of_the_type_of_the_keys(
    key_type: KeyType, keys: list[Any], wanted: pa.DataType, tmp_path: Path
) -> None:
    keyed_store(tmp_path / "store", [keys[:10], keys[10:]], key_type, VECTORS_ND)
    queries, found = str(tmp_path / "queries.parquet"), str(tmp_path / "found.parquet")
    pq.write_table(pa.table({"id": ["red", "blue"], "embedding": fixed_size_list(10 * VECTORS_ND[[7, 12]])}), queries)
    settings = SearchSettings(store=str(tmp_path / "store"), queries=queries, encoder=ENCODER, output=found, k=40)
    search_file(settings)
    table = pairs.read_table(found)
    assert {field.name: field.type for field in table.schema} == {
        "query": pa.string(), "rank": pa.int64(), "id": wanted, "score": pa.float32(),
    }  # fmt: skip
    assert table["query"].to_pylist() == ["red"] * 30 + ["blue"] * 30
    assert table["rank"].to_pylist() == [*range(30), *range(30)]
    assert to_python(table["id"].combine_chunks()).tolist().count(keys[7]) == 2


def test_what_was_read_is_kept_up_to_a_limit_and_read_again_beyond(tmp_path: Path) -> None:
    store, manifest = keyed_store(tmp_path, SHARDS, KeyType.UUID)
    found = FoundKeys(store, manifest, kept_bytes=500)  # one shard is 240 bytes
    assert to_python(found.of(np.array([[0, 29], [-1, 0]]))).tolist() == [KEYS[0], KEYS[29], None, KEYS[0]]
    for record in manifest.shards[1:]:
        Path(store.uri_of(record.embeddings.path)).unlink()
    assert to_python(found.of(np.array([5, 22]))).tolist() == [KEYS[5], KEYS[22]], "nothing is read again"
    with pytest.raises(FormatError, match="its index has the id 31, and no shard a row for it"):
        found.of(np.array([0, 31]))


def test_a_searcher_on_s3_reads_columns_of_keys_and_no_whole_shard(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = uuids(4000)
    vectors_ND = np.zeros((4000, 256), np.float32)  # 4 MB of vectors, 96 kB of ids and keys
    store, manifest = keyed_store(s3_uri, [keys[:2000], keys[2000:]], KeyType.UUID, vectors_ND)
    read_bytes, get = [], s3_objects.get

    def counted(uri: str, *arguments: Any) -> Any:
        answer = get(uri, *arguments)
        read_bytes.append(len(answer.data))
        return answer

    monkeypatch.setattr(s3_objects, "get", counted)
    found = FoundKeys(store, manifest)
    assert to_python(found.of(np.array([7, 3999]))).tolist() == [keys[7], keys[3999]]
    assert 90_000 < sum(read_bytes) < 400_000
