"""Vectors in memory become the Parquet file that a job reads, whatever table library they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.api.vector_tables import parquet_bytes
from fct_ray.errors import SettingsError
from fct_ray.storage import objects
from fct_ray.storage.pairs import read_pairs
from tests.fashion_vectors import fashion_vectors, fixed_size_list

V = fashion_vectors(1000)
IDS, NEW = V.ids_N[:50], V.new_NW[:50]
FORMS: dict[str, Any] = {
    "arrays": (IDS, NEW),
    "lists": (IDS.tolist(), NEW.tolist()),
    "arrow": pa.table({"id": IDS, "embedding": fixed_size_list(NEW)}),
    "arrow in batches": pa.concat_tables([pa.table({"id": IDS[i : i + 1], "embedding": [NEW[i]]}) for i in range(50)]),
    "pandas": pd.DataFrame({"id": IDS, "embedding": list(NEW)}),
    "pandas with an index, and columns in another order": pd.DataFrame(
        {"embedding": NEW.tolist(), "id": IDS.astype(np.int32)}, index=IDS[::-1]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(form: str, tmp_path: Any) -> None:
    path = str(tmp_path / "pairs.parquet")
    objects.write_bytes(path, parquet_bytes(FORMS[form], "pairs"))
    read = read_pairs(path)
    np.testing.assert_array_equal(read.ids, IDS)
    np.testing.assert_array_equal(read.embeddings_NW, NEW)


def test_other_columns_and_the_scale_of_quantised_side_information_are_kept() -> None:
    side = pa.field("side_info", pa.list_(pa.int8(), 2), metadata={"scale": "0.5"})
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("embedding", pa.list_(pa.float32(), 48)), side])
    arrays = [pa.array(IDS), fixed_size_list(NEW), pa.array([[1, 2]] * 50, pa.list_(pa.int8(), 2))]
    table = pq.read_table(pa.BufferReader(parquet_bytes(pa.table(arrays, schema=schema), "embeddings")))
    assert table.schema.field("side_info").metadata[b"scale"] == b"0.5"


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (pa.table({"id": IDS}), "without 'embedding'"),
        (pd.DataFrame({"id": [1.0, None], "embedding": [[0.1], [0.2]]}), "is double; wanted whole numbers"),
        (pa.table({"id": [None, "a"], "embedding": [[0.1], [0.2]]}), "row 0: the id is null"),
        (pa.table({"id": pa.array([2**63], pa.uint64()), "embedding": [[0.1]]}), "beyond int64"),
        ((IDS, NEW[:3]), r"ids have shape \(50,\) and embeddings \(3, 48\)"),
        ((IDS, NEW, V.labels_N[:50]), "a tuple of 3"),
        (pd.DataFrame({"id": [1, 2], "embedding": ["a", [0.1]]}), "cannot become an Arrow table"),
        ({"id": IDS}, "got a dict; want a path"),
    ],
)
def test_what_is_no_table_of_vectors_is_refused(vectors: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=f"pairs: .*{said}"):
        parquet_bytes(vectors, "pairs")
