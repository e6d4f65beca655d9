"""Raw items of one shard through encoders, then written and indexed.

Owns: reading the items, applying the encoders, leaving out what cannot be used. `shard_output` commits what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fct_ray.errors import SourceError
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.shard_output import OutputJob, ShardWriter, done
from fct_ray.sources.items import Items, Source
from fct_ray.sources.registry import open_source
from fct_ray.storage import documents, quarantine, shards
from fct_ray.values import BadRow, OnBadRow, Provenance, Receipt, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedJob:
    """A full backfill's stream: raw items through one encoder, and another for side-information (or None)."""

    output: OutputJob
    source_spec: str
    encoder_uri: EncoderSpec
    side_uri: EncoderSpec | None
    side_dtype: str
    positions_N: npt.NDArray[np.int64] | None = None
    """The items to embed, as positions in the source, in order. None: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedDescriptor:
    """One shard to embed: items [start, stop) of the source, or of the job's positions in it."""

    shard: int
    start: int
    stop: int


class EmbedWorker:
    """A pool's worker: raw items in, an embedded shard out."""

    def __init__(self, job: EmbedJob) -> None:
        """Load the encoders once per actor."""
        torch.set_num_threads(job.output.threads)
        self.job, self.writer = job, ShardWriter(job.output)
        self.source = open_source(job.source_spec)
        self.encoder = open_encoder(job.encoder_uri)
        self.side = open_encoder(job.side_uri) if job.side_uri is not None else None

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """One EmbedDescriptor as JSON in, one line about it out."""
        descriptor = documents.load(EmbedDescriptor, str(task["descriptor"]).encode(), "a shard descriptor")
        return done(self._embed(descriptor))

    def _embed(self, task: EmbedDescriptor) -> Receipt:
        started_at = time.time()
        chosen = np.arange(task.start, task.stop)
        positions_N = chosen if self.job.positions_N is None else self.job.positions_N[chosen]
        items, bad = read_items(self.source, positions_N, self.job.output.on_bad_row)
        embeddings_NW = self.encoder.encode(items.columns)
        side_NS = self.side.encode(items.columns) if self.side is not None else None
        good_N = quarantine.finite(embeddings_NW)
        if side_NS is not None:
            good_N &= quarantine.finite(side_NS)
        if not good_N.all():
            name = f"shard {task.shard} of {self.job.source_spec}"
            bad = quarantine.not_finite(items.ids_N, bad, good_N, "an encoder", name, self.job.output.on_bad_row)
            embeddings_NW, side_NS = embeddings_NW[good_N], None if side_NS is None else side_NS[good_N]
            items = items.rows(good_N)
        table = shards.build_table(items.ids_N, embeddings_NW, side_NS, items.carried, side_dtype=self.job.side_dtype)
        flops = self.encoder.flops_per_item + (self.side.flops_per_item if self.side is not None else 0.0)
        return self.writer.commit(
            task.shard,
            items.ids_N,
            embeddings_NW,
            table,
            provenance=Provenance.EMBEDDED,
            input_sha256=None,
            usage=Usage(flops=flops * len(items.ids_N), bytes_read=items.bytes_read),
            started_at=started_at,
            bad_rows=bad,
        )


def read_items(
    source: Source, positions_N: npt.NDArray[np.int64], on_bad_row: OnBadRow
) -> tuple[Items, tuple[BadRow, ...]]:
    """The items at these positions; with QUARANTINE without those that cannot be read, which are the second value.

    Raises:
        SourceError: an item cannot be read, with REFUSE; or none can.
    """
    try:
        return source.read(positions_N), ()
    except SourceError:
        if on_bad_row is OnBadRow.REFUSE:
            raise
    bad: list[BadRow] = []
    for row, position in enumerate(positions_N):  # one by one: only so it is known which
        try:
            source.read(positions_N[row : row + 1])
        except SourceError as error:
            bad.append(BadRow(row=row, id=int(source.ids_N[position]), reason=str(error)))
    good_N = np.delete(positions_N, [unreadable.row for unreadable in bad])
    if len(good_N) == 0:
        raise SourceError(f"none of {len(positions_N):,} items can be read; the first: {bad[0].reason}")
    return source.read(good_N), tuple(bad)
