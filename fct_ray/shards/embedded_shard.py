"""Raw items of one shard through encoders, then written and indexed.

Owns: reading the items, applying the encoders, leaving out what cannot be used. `shard_output` commits what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fct_ray.errors import SourceError
from fct_ray.key_types import texts
from fct_ray.kinds import KeyType, OnBadRow, Provenance
from fct_ray.models.batch_encoder import encode_metered
from fct_ray.shards.encoder_names import EncoderSpec
from fct_ray.shards.listed_items import ListedItems
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.shard_output import OutputJob, ShardWriter, done
from fct_ray.sources.items import Items, Reader
from fct_ray.sources.listing import Listing
from fct_ray.sources.registry import open_reader
from fct_ray.storage import documents, keys, quarantine, shards
from fct_ray.values import BadRow, Receipt, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedJob:
    """A full backfill's stream: raw items through one encoder, and another for side-information (or None)."""

    output: OutputJob
    items_uri: str
    """The items of the run, as `listed_items` keeps them."""
    encoder_uri: EncoderSpec
    side_uri: EncoderSpec | None
    side_dtype: str
    key_type: KeyType | None = None
    """The type of the store's keys. None: the ids of the source are the store's."""
    first_id: int = 0
    """With keys: the id of the run's first item; the others follow in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedDescriptor:
    """One shard to embed: items [start, stop) of the run."""

    shard: int
    start: int
    stop: int


class EmbedWorker:
    """A pool's worker: raw items in, an embedded shard out."""

    def __init__(self, job: EmbedJob) -> None:
        """Load the encoders once per actor."""
        torch.set_num_threads(job.output.threads)
        self.job, self.writer = job, ShardWriter(job.output)
        self.items = ListedItems(job.items_uri)
        self.reader = open_reader(self.items.source.spec)
        self.encoder = open_encoder(job.encoder_uri)
        self.side = open_encoder(job.side_uri) if job.side_uri is not None else None

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """One EmbedDescriptor as JSON in, one line about it out."""
        descriptor = documents.load(EmbedDescriptor, str(task["descriptor"]).encode(), "a shard descriptor")
        return done(self._embed(descriptor))

    def _embed(self, task: EmbedDescriptor) -> Receipt:
        started_at = time.time()
        listing = self.items.part(task.start, task.stop)
        items, bad = self._numbered(task, listing, *read_items(self.reader, listing, self.job.output.on_bad_row))
        embeddings_NW, usage = encode_metered(self.encoder, items.columns)
        side_NS, side_usage = (None, Usage()) if self.side is None else encode_metered(self.side, items.columns)
        good_N = quarantine.finite(embeddings_NW)
        if side_NS is not None:
            good_N &= quarantine.finite(side_NS)
        if not good_N.all():
            name = f"shard {task.shard} of {self.items.source.spec}"
            bad = quarantine.not_finite(
                items.ids_N, bad, good_N, "an encoder", name, self.job.output.on_bad_row, keys=items.keys
            )
            embeddings_NW, side_NS = embeddings_NW[good_N], None if side_NS is None else side_NS[good_N]
            items = items.rows(good_N)
        table = shards.build_table(
            items.ids_N, embeddings_NW, side_NS, items.carried, side_dtype=self.job.side_dtype, keys=items.keys
        )
        return self.writer.commit(
            task.shard,
            items.ids_N,
            embeddings_NW,
            table,
            counts={Provenance.EMBEDDED: len(items.ids_N)},
            input_sha256=None,
            usage=usage + side_usage + Usage(bytes_read=items.bytes_read),
            started_at=started_at,
            bad_rows=bad,
        )

    def _numbered(
        self, task: EmbedDescriptor, listing: Listing, items: Items, bad: tuple[BadRow, ...]
    ) -> tuple[Items, tuple[BadRow, ...]]:
        """In a store with keys: items with ids that count them as the run lists them, and with keys of the store's type."""
        job, source = self.job, self.items.source.spec
        if job.key_type is None:
            return items, bad
        if items.keys is None:
            raise SourceError(
                f"{source}: its items have no keys any more; want those that they had when they were listed"
            )
        first = job.first_id + task.start
        rows_N = np.delete(np.arange(listing.num_items), [unreadable.row for unreadable in bad])
        named = tuple(replace(unreadable, id=first + unreadable.row) for unreadable in bad)
        return replace(items, ids_N=first + rows_N, keys=keys.as_stored(items.keys, job.key_type, source)), named


def read_items(reader: Reader, listing: Listing, on_bad_row: OnBadRow) -> tuple[Items, tuple[BadRow, ...]]:
    """The items of a listing; with QUARANTINE without those that cannot be read, which are the second value.

    Items whose object was changed or deleted since it was listed are among those.

    Raises:
        SourceError: an item cannot be read, with REFUSE; or none can.
    """
    try:
        return reader.read(listing), ()
    except SourceError:
        if on_bad_row is OnBadRow.REFUSE:
            raise
    bad: list[BadRow] = []
    for row in range(listing.num_items):  # one by one: only so it is known which
        item = listing.take(np.array([row]))
        try:
            reader.read(item)
        except SourceError as error:
            number, key = _id_of(reader, item)
            bad.append(BadRow(row=row, id=number, reason=str(error), key=key))
    good_N = np.delete(np.arange(listing.num_items), [unreadable.row for unreadable in bad])
    if len(good_N) == 0:
        raise SourceError(f"none of {listing.num_items:,} items can be read; the first: {bad[0].reason}")
    return reader.read(listing.take(good_N)), tuple(bad)


def _id_of(reader: Reader, item: Listing) -> tuple[int | None, str | None]:
    """The id of one item, and its key as text; None if the object that has it cannot be read either."""
    try:
        known = reader.keys(item)
    except SourceError:
        return None, None
    return int(known.ids_N[0]), None if known.keys is None else texts(known.keys)[0]
