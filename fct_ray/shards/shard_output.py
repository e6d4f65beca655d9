"""The end of a shard's way: its Parquet object, its FAISS file, and a receipt once both are durable.

    embeddings_NW ---+--> Parquet --> write --+--> receipt
                     +--> FAISS   --> write --+

Owns: the order of effects around one shard. Several threads may commit shards at once; what keeps a core busy waits for
`computing`, so that only reading and writing overlap. Knows neither where embeddings come from nor torch: whoever only
moves rows need not pay for it. Units: rows; bytes as stored.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import DataError
from fct_ray.index import build
from fct_ray.kinds import Metric, OnBadRow, Provenance
from fct_ray.metering.meters import peak_memory_bytes, process_meter
from fct_ray.storage import objects, shards
from fct_ray.storage.store import Store
from fct_ray.values import BadRow, IndexRef, ObjectRef, Receipt, ShardRecord, Usage

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputJob:
    """What is the same for every shard that a run writes."""

    store_uri: str
    version: int
    run: str
    metric: Metric
    dimension: int
    index: IndexRef | None
    """None: the version has no index, and is searched exactly."""
    threads: int
    on_bad_row: OnBadRow = OnBadRow.REFUSE
    max_bad_rows: int = 0
    """The limit of the whole run; each worker checks it for its shard, and the driver for all before publishing."""


class ShardWriter:
    """Writes one shard's Parquet object, FAISS file and receipt."""

    def __init__(self, job: OutputJob) -> None:
        """Load the trained index once per actor."""
        build.set_num_threads(job.threads)
        self.job, self.store = job, Store(job.store_uri)
        trained = None if job.index is None else job.index.trained
        self.template = None if trained is None else self.store.read(trained)
        self.threads = ThreadPoolExecutor(thread_name_prefix="parquet")
        self.computing = threading.Lock()
        self.meter = process_meter()

    def commit(
        self,
        shard: int,
        ids_N: npt.NDArray[np.int64],
        embeddings_NW: FloatArray,
        table: pa.Table,
        *,
        counts: Mapping[Provenance, int],
        input_sha256: str | None,
        usage: Usage,
        started_at: float,
        bad_rows: tuple[BadRow, ...] = (),
    ) -> Receipt:
        """Write Parquet (in a side thread) and FAISS, then the receipt; `usage` is what producing them took so far.

        `counts` says how many of the rows came to be how; `bad_rows` were left out of the arrays already.

        Raises:
            DataError: no row is left, or more bad rows than the job allows.
        """
        job = self.job
        _check_bad_rows(shard, len(ids_N), bad_rows, job.max_bad_rows)
        parquet = self.threads.submit(self._write, self.store.shard_path(job.version, shard), table)
        index = None if job.index is None else self._index(shard, ids_N, embeddings_NW, job.index.factory)
        embeddings = parquet.result()
        rows = len(ids_N)
        record = ShardRecord(
            shard=shard,
            embeddings=embeddings,
            index=index,
            rows=rows,
            id_min=int(ids_N.min()),
            id_max=int(ids_N.max()),
            **provenance_of(counts),
            input_sha256=input_sha256,
            quarantined=len(bad_rows),
        )
        written = embeddings.bytes + (0 if index is None else index.bytes)
        usage = usage + self.meter.read() + Usage(rows=rows, bytes_written=written)
        receipt = Receipt(
            run=job.run,
            record=record,
            usage=usage,
            peak_memory_bytes=peak_memory_bytes(),
            worker=f"{os.environ.get('FCT_RAY_NODE_ID', 'local')[:12]}:{os.getpid()}",  # the node is set by the engine
            started_at=started_at,
            ended_at=time.time(),
            bad_rows=bad_rows,
        )
        self.store.write_receipt(job.version, receipt)
        return receipt

    def _index(
        self, shard: int, ids_N: npt.NDArray[np.int64], embeddings_NW: FloatArray, index_factory: str
    ) -> ObjectRef:
        with self.computing:
            build.set_num_threads(self.job.threads)  # of this thread, too
            builder = build.ShardIndexBuilder(self.template, index_factory, self.job.dimension, self.job.metric)
            builder.add(ids_N, embeddings_NW)
            data = builder.finish()
        return self._put(self.store.index_path(self.job.version, shard), data)

    def _write(self, path: str, table: pa.Table) -> ObjectRef:
        return self._put(path, shards.encode_table(table))

    def _put(self, path: str, data: bytes) -> ObjectRef:
        size, sha256 = objects.write_bytes(self.store.uri_of(path), data)
        return ObjectRef(path=path, bytes=size, sha256=sha256)


class _Provenance(TypedDict):
    provenance: Provenance
    counts: dict[str, int]


def provenance_of(counts: Mapping[Provenance, int]) -> _Provenance:
    """What a shard's record says of where its rows came from: one word for all of them, and how many of each.

    Examples:
        >>> provenance_of({Provenance.TRANSFORMED: 7, Provenance.EMBEDDED: 2})["provenance"].value
        'mixed'
    """
    there = {provenance: count for provenance, count in counts.items() if count}
    return {
        "provenance": next(iter(there)) if len(there) == 1 else Provenance.MIXED,
        "counts": {provenance.value: count for provenance, count in there.items()},
    }


def _check_bad_rows(shard: int, num_good: int, bad_rows: Sequence[BadRow], most: int) -> None:
    if num_good == 0 or len(bad_rows) > most:
        first = f"; the first: row {bad_rows[0].row} (id {bad_rows[0].name}): {bad_rows[0].reason}" if bad_rows else ""
        raise DataError(
            f"shard {shard}: {num_good:,} usable rows, {len(bad_rows):,} bad ones; want at least 1 usable, and at most "
            f"{most:,} bad ones in all (--max-bad-rows){first}"
        )


def done(receipt: Receipt) -> dict[str, str]:
    """What an actor answers about a shard: a line for the progress bar."""
    return {"done": f"shard {receipt.record.shard}, {receipt.record.rows:,} rows"}
