"""A shard of texts by an endpoint and by a text model, both named, as a worker embeds it; without Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.kinds import Metric, OnBadRow
from fct_ray.models.by_name.registry import open_named
from fct_ray.shards.embedded_shard import EmbedDescriptor, EmbedJob, EmbedWorker
from fct_ray.shards.listed_items import listing_to_parquet
from fct_ray.shards.shard_output import OutputJob
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, quarantine
from fct_ray.storage.store import Store
from tests.embeddings_server import embeddings_server
from tests.models.by_name.packaged_models import TEXTS, minilm_directory

MINILM, KEY = f"sentence-transformers:{minilm_directory()}", "key-4fzT9vQm2LxW8rKd"


def test_tokens_are_in_the_receipt_the_key_is_nowhere_and_a_row_of_nan_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"id": np.arange(len(TEXTS)), "body": TEXTS}), tmp_path / "texts.parquet")
    source = open_source(f"parquet:{tmp_path / 'texts.parquet'}?text=body")
    (tmp_path / "items.parquet").write_bytes(listing_to_parquet(source.listing))
    monkeypatch.setenv("SHOP_KEY", KEY)
    model = open_named(MINILM)
    with embeddings_server(lambda texts: model.encode({"text": list(texts)}), KEY) as server:
        server.faults = ["429 after 0.1", "nan"]
        job = EmbedJob(
            output=OutputJob(
                store_uri=str(tmp_path / "store"),
                version=1,
                run="embed-1",
                metric=Metric.IP,
                dimension=384,
                index=None,
                threads=1,
                on_bad_row=OnBadRow.QUARANTINE,
                max_bad_rows=1,
            ),
            items_uri=str(tmp_path / "items.parquet"),
            encoder_uri=f"openai:minilm@{server.url}?dimensions=384&key=SHOP_KEY",
            side_uri=MINILM,
            side_dtype="float32",
        )
        descriptor = documents.dump(EmbedDescriptor(shard=0, start=0, stop=len(TEXTS))).decode()
        EmbedWorker(job)({"descriptor": descriptor})
    (receipt,) = Store(job.output.store_uri).receipts(1)
    assert receipt.usage.tokens == sum(len(text.split()) for text in TEXTS)
    assert [(bad.id, bad.reason) for bad in receipt.bad_rows] == [
        (0, "an encoder gives numbers that are NaN or infinite")
    ]
    shard, _ = quarantine.parse_shard(
        Path(Store(job.output.store_uri).uri_of(receipt.record.embeddings.path)).read_bytes(),
        "shard",
        OnBadRow.REFUSE,
        dimension=384,
        side_dimension=384,
    )
    wanted = model.encode({"text": list(TEXTS[1:])})
    np.testing.assert_allclose(shard.embeddings_ND, wanted, atol=1e-5)
    assert shard.side_info_NS is not None
    np.testing.assert_allclose(shard.side_info_NS, wanted, atol=1e-5)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
