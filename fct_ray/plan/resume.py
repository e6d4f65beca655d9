"""What a run still has to do, as a set difference of two lists that anyone can see with `ls`.

Owns: the comparison of planned shards with receipts, and the sum of their usage. Knows no storage: the caller
reads manifest and ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fct_ray.values import Receipt, ShardRecord, Usage


def done_receipts(records: Sequence[ShardRecord], receipts: Iterable[Receipt]) -> list[Receipt]:
    """The receipts that prove a shard of `records` is finished, in shard order, one per shard.

    A receipt counts only if it was made from exactly this input (its `input_sha256` is the record's embeddings
    hash). Of several for one shard the last given counts.
    """
    wanted = {record.shard: record.embeddings.sha256 for record in records}
    found = {
        receipt.record.shard: receipt
        for receipt in receipts
        if receipt.record.input_sha256 is not None and wanted.get(receipt.record.shard) == receipt.record.input_sha256
    }
    return [found[shard] for shard in sorted(found)]


def shards_to_do(records: Sequence[ShardRecord], receipts: Iterable[Receipt]) -> list[ShardRecord]:
    """The input shards without a valid receipt, in the order of `records`.

    A shard whose input changed since its receipt was written is to do again.
    """
    done = {receipt.record.shard for receipt in done_receipts(records, receipts)}
    return [record for record in records if record.shard not in done]


def shard_numbers_to_do(num_shards: int, receipts: Iterable[Receipt]) -> list[int]:
    """The shards 0 .. num_shards - 1 without a receipt: for full backfills, whose input is not a version."""
    done = {receipt.record.shard for receipt in receipts}
    return [shard for shard in range(num_shards) if shard not in done]


def usage_of(receipts: Iterable[Receipt]) -> Usage:
    """Work of all attempts that ended in these receipts: the sum of their usage.

    Examples:
        >>> usage_of([])
        Usage(wall_s=0.0, busy_cpu_s=0.0, busy_gpu_s=0.0, node_s=0.0, flops=0.0, bytes_read=0, bytes_written=0, rows=0, ...)
    """
    return sum((receipt.usage for receipt in receipts), Usage())
