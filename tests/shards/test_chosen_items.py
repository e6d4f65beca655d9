"""Chosen items through encoders in a worker: as they are, or another view of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fct_ray.kinds import Metric
from fct_ray.shards.chosen_items import EncodeWorker
from fct_ray.sources.listing import spans_to_bytes
from fct_ray.sources.registry import open_source
from fct_ray.sources.views import Span

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LetterCounts:
    """Texts to how often they have each letter; refuses a batch of none, as encoders of users may."""

    name, fingerprint, dimension, metric, normalized, flops_per_item = "letters", "letters", 26, Metric.L2, False, 0.0

    def encode(self, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        return np.stack([np.array([text.count(letter) for letter in LETTERS], np.float32) for text in columns["text"]])


def answer(directory: Path, texts: list[str], first: int, cut: Span | None) -> pa.Table:
    pq.write_table(pa.table({"id": np.arange(50, 50 + len(texts)), "text": texts}), directory / "t.parquet")
    source = open_source(f"parquet:{directory}?text=text")
    worker = EncodeWorker(source.listing.source, (LetterCounts(),), torch.get_num_threads(), cut)
    answered = worker({"first": first, "spans": spans_to_bytes(source.listing)})
    return pa.ipc.open_stream(answered["encoded"]).read_all()


def counted(texts: list[str]) -> npt.NDArray[np.float32]:
    return LetterCounts().encode({"text": texts})


def test_items_whose_text_ends_where_the_view_begins_are_left_out_and_the_others_keep_their_places(
    tmp_path: Path,
) -> None:
    rests = ["a rest that is long enough", "another one, long enough too"]
    texts = ["title " + rests[0], "title", "title and little", "title " + rests[1]]
    table = answer(tmp_path, texts, 512, Span(chars=6))
    assert table["id"].to_pylist() == [50, 53]
    assert table["position"].to_pylist() == [512, 515]
    np.testing.assert_array_equal(np.stack(table["embedding_0"].to_numpy()), counted(rests))
    assert np.sum(table["bytes_read"].to_numpy()) > 0


def test_where_no_item_has_the_view_nothing_is_embedded(tmp_path: Path) -> None:
    table = answer(tmp_path, ["title", "title"], 0, Span(chars=6))
    assert (table.num_rows, table.schema.field("embedding_0").type) == (0, pa.list_(pa.float32(), 26))


def test_without_a_view_items_are_embedded_as_they_are(tmp_path: Path) -> None:
    texts = ["title", "another"]
    table = answer(tmp_path, texts, 3, None)
    assert table["position"].to_pylist() == [3, 4]
    np.testing.assert_array_equal(np.stack(table["embedding_0"].to_numpy()), counted(texts))
