"""Where the shards of a version came from in the end: the receipts of embedding them from raw items.

    v4 shard 2  <- upgrade <-  v3 shard 2  <- delete <-  v2 shard 2  <- embedded: this receipt

Owns: following `input_sha256` from receipt to receipt. Knows no storage: the caller reads the receipts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fct_ray.values import Receipt, ShardRecord


def embedding_receipts(records: Sequence[ShardRecord], receipts: Iterable[Receipt]) -> list[Receipt] | None:
    """The receipts under which the rows of these shards were embedded from raw items, each once, in shard order.

    None where the beginning of a shard is not known: it was adopted, or its receipts were collected.
    """
    made = {receipt.record.embeddings.sha256: receipt for receipt in receipts}
    origins: dict[str, Receipt] = {}
    for record in records:
        receipt = made.get(record.embeddings.sha256)
        while receipt is not None and receipt.record.input_sha256 is not None:
            receipt = made.get(receipt.record.input_sha256)
        if receipt is None:
            return None
        origins[receipt.record.embeddings.sha256] = receipt
    return list(origins.values())
