"""Appending items to a gallery, as a new version: existing embeddings of its encoder, or raw items that it embeds.

Owns: the settings, which items are new, and the checks that they fit the gallery. `edit` makes the version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.shard_stream import stream_shards
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import DataError, EncoderMismatchError, FormatError, SettingsError, StoreError
from fct_ray.plan.identity import run_id
from fct_ray.settings import Count
from fct_ray.shards.edited_shard import EditJob, Through
from fct_ray.shards.embedded_shard import EmbedDescriptor, EmbedJob, EmbedWorker
from fct_ray.shards.encoder_names import EncoderSpec, model_uri, read_document, resolve_encoder
from fct_ray.shards.inspected_objects import usable_ids
from fct_ray.shards.model_directory import open_encoder
from fct_ray.shards.shard_output import OutputJob
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source
from fct_ray.storage import object_schema, parquet_listing
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout, EncoderRef, Manifest, Receipt
from fct_ray.workflows.adopt import ColumnNames
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.edit import Edit, EditOutcome, make_edit, run_unless_published, shards_with
from fct_ray.workflows.inspection import InspectedObjects, copy_into_store, inspect_objects
from fct_ray.workflows.item_positions import ids_in_source
from fct_ray.workflows.keys import NOT_THERE, ids_or_none
from fct_ray.workflows.run_items import ShardRanges, items_of_run
from fct_ray.workflows.unique_ids import refuse_repeated

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AppendSettings(BadRowSettings):
    """Add items to a gallery, as a new version: existing embeddings of its encoder, or raw items that it embeds."""

    store: str
    """The store: a directory or s3:// prefix."""
    encoder: str
    """The encoder of the new items: must be the one that CURRENT is for."""
    embeddings: str | None = None
    """Directory or glob of Parquet objects with columns as for `adopt`; they are copied into the store."""
    columns: ColumnNames = field(default_factory=ColumnNames)
    """What these columns are called. Left out: as in the objects that were adopted, where the gallery still lies in them."""
    source: str | None = None
    """Raw items (instead of --embeddings); those whose ids the store does not have are embedded."""
    side: str | None = None
    """With --source: the side-information model, if the store keeps side-information."""
    rows_per_shard: Count = 20_000
    """With --source: items per new shard."""
    restart: bool = False
    """With --source: begin anew with the items as they are now, also if an interrupted run could go on with those that it
    began with."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that do it."""


def append(
    settings: AppendSettings, size: ClusterSize, *, encoder: EncoderSpec | None = None, side: EncoderSpec | None = None
) -> EditOutcome:
    """Add items as a new version; run again after a kill, it resumes.

    `encoder` and `side` are the encoders themselves, where there is more of them than the names in the settings.

    Raises:
        EncoderMismatchError: the items' encoder is not that of CURRENT (perhaps the store was upgraded meanwhile).
        FormatError: dimensions or side-information differ from the gallery's.
        DataError: an id that the gallery has already, or twice among the new ones; NaN or infinite values.
    """
    store, embeddings, source = Store(settings.store), settings.embeddings, settings.source
    made_by = settings.encoder if encoder is None else encoder
    made_side = settings.side if side is None else side

    def plan(parent: Manifest) -> Edit | None:
        if embeddings is not None and source is None:
            return _appended_objects(settings, made_by, embeddings, store, parent)
        if source is not None and embeddings is None:
            return _appended_items(settings, made_by, made_side, source, store, parent, size)
        raise SettingsError("give the new items either as --embeddings (Parquet files) or as --source (raw items)")

    return make_edit(store, plan, threads=settings.pool.threads, bad_rows=settings)


def _appended_objects(
    settings: AppendSettings, encoder: EncoderSpec, embeddings: str, store: Store, parent: Manifest
) -> Edit | None:
    through = _joined_through(store, parent)
    _check_encoder(resolve_encoder(encoder, store).ref, parent)
    layout = _layout(settings, parent)
    uris = parquet_listing.list_parquet(embeddings)
    object_schema.check_object(uris[0], layout)
    inspected = inspect_objects(uris, layout, settings.on_bad_row)
    _check_kind(inspected, parent, through, layout)
    inspected = inspected.numbered(
        layout,
        first_shard=_next_shard(parent),
        first_id=1 + max(record.id_max for record in parent.shards),
        by_hash=True,
    )
    records = sorted((seen.record for seen in inspected.with_rows), key=lambda record: record.shard)
    run = run_unless_published("append", store, parent, *(record.embeddings.sha256 for record in records))
    if run is None:
        return None
    if not inspected.by_position(layout):
        _check_ids(settings, inspected, layout, store, parent)
    copies = inspected.copies(every=True)

    def write(output: OutputJob, receipts: Sequence[Receipt]) -> None:
        side = parent.side_info
        job = EditJob(
            output=output,
            side_dimension=None if side is None else side.dimension,
            reading=Reading(layout=layout, keys=inspected.keys),
            through=through,
        )
        copy_into_store(copies, job, receipts)

    return Edit(
        run=run,
        shards=tuple(record.shard for record in records),
        write=write,
        changed=(num_rows := sum(seen.num_rows for seen in inspected.with_rows)),
        num_rows=parent.num_rows + num_rows,
        notes=inspected.notes(all_copied=True),
    )


def _layout(settings: AppendSettings, parent: Manifest) -> AdoptedLayout:
    """How the new objects are read: as named, else as the gallery's own, where it still lies as it was adopted."""
    if settings.columns == ColumnNames() and parent.adopted is not None:
        return parent.adopted
    read_as = parent.adopted or AdoptedLayout()
    return settings.columns.layout(truncate=read_as.truncate, normalize=read_as.normalize)


def _check_ids(
    settings: AppendSettings, inspected: InspectedObjects, layout: AdoptedLayout, store: Store, parent: Manifest
) -> None:
    """Refuse ids that two of the new items have, or that the gallery has already."""
    read = [portion for portion, _ in inspected.portions]
    usable: dict[int, IdArray] = {}
    for at, found in map_tasks(
        usable_ids,
        read,
        layout,
        inspected.keys,
        settings.on_bad_row,
        describe="read ids",
        name=lambda portion: portion.pieces[0].uri,
    ):
        usable |= dict(zip(inspected.portions[at][1], found, strict=True))
    refuse_repeated(
        [(seen.record.embeddings.path, usable[position]) for position, seen in enumerate(inspected.with_rows)]
    )
    _check_new(store, parent, np.sort(np.concatenate(list(usable.values()))))


def _joined_through(store: Store, parent: Manifest) -> Through | None:
    """For a version of joined blocks: what embeddings of the model before it go through; None for any other version.

    Raises:
        StoreError: the model that made the version is not there.
    """
    if not parent.queries or parent.transformation is None:
        return None
    uri = store.find_transformation(parent)
    if uri is None:
        raise StoreError(
            f"{store.models_uri()}: the model that made version {parent.version} is not there: restore it, or roll back "
            "with `fct-ray store rollback`"
        )
    old_dimension = int(read_document(uri).architecture["old_dimension"])
    return Through(transformation_uri=uri, old_dimension=old_dimension, precision=parent.transformation.precision)


def _refuse_raw_items(parent: Manifest) -> None:
    if parent.queries:
        raise SettingsError(
            f"version {parent.version} joins the vectors of several models, so --source cannot be appended to it: embed the "
            "items with the model that the gallery was embedded with first, and with that of the side-information, and "
            "give them as --embeddings"
        )


def _check_kind(inspected: InspectedObjects, parent: Manifest, through: Through | None, layout: AdoptedLayout) -> None:
    """Refuse embeddings or side-information of another kind than the gallery's."""
    first, side = inspected.with_rows[0], parent.side_info
    seen = (layout.truncate or first.dimension, first.side_dimension, first.side_dtype)
    if inspected.keys is not parent.keys:
        raise FormatError(
            f"{first.record.embeddings.path}: its ids are {inspected.keys or 'whole numbers'}; version {parent.version} "
            f"calls its items by {parent.keys or 'whole numbers'}: give the new items ids of that type, or name the column "
            "with --columns.id"
        )
    dimension = parent.dimension if through is None else through.old_dimension
    wanted = (dimension, None if side is None else side.dimension, None if side is None else side.dtype)
    if seen != wanted:
        raise FormatError(
            f"{first.record.embeddings.path}: (dimension, side dimension, side dtype) is {seen}; version {parent.version} "
            f"has {wanted}: new items need embeddings and side-information of the same models"
        )
    if through is None and parent.normalized and not layout.normalize and inspected.ids_not_unit is not None:
        uri, ids = inspected.ids_not_unit
        raise FormatError(
            f"{uri}: vectors of other lengths than 1 (of id {', '.join(str(number) for number in ids)}); all vectors of "
            f"version {parent.version} have length 1: divide each new vector by its length, as was done with the gallery's"
        )


def _appended_items(
    settings: AppendSettings,
    encoder: EncoderSpec,
    side: EncoderSpec | None,
    source_spec: str,
    store: Store,
    parent: Manifest,
    size: ClusterSize,
) -> Edit | None:
    _refuse_raw_items(parent)
    encoder_uri = model_uri(encoder, store)
    side_uri = None if side is None else model_uri(side, store)
    _check_encoder(resolve_encoder(encoder, store).ref, parent)
    _check_side(side_uri, parent)
    first_shard, rows_per_shard = _next_shard(parent), settings.rows_per_shard
    request = run_id("append", store.manifest_bytes_sha256(parent.version), source_spec, str(rows_per_shard))
    items = items_of_run(
        store,
        request,
        open_source(source_spec),
        ShardRanges(first_shard=first_shard, rows_per_shard=rows_per_shard),
        choose=lambda source: _new_items(store, parent, source),
        on_bad_row=settings.on_bad_row,
        restart=settings.restart,
    )
    num_items = items.source.num_items
    if num_items == 0:
        return None
    tasks = {
        shard: EmbedDescriptor(shard=shard, start=start, stop=min(num_items, start + rows_per_shard))
        for shard, start in enumerate(range(0, num_items, rows_per_shard), first_shard)
    }

    def write(output: OutputJob, receipts: Sequence[Receipt]) -> None:
        job = EmbedJob(
            output=output,
            items_uri=items.keep(store),
            encoder_uri=encoder_uri,
            side_uri=side_uri,
            side_dtype="float32" if parent.side_info is None else parent.side_info.dtype,
            key_type=parent.keys,
            first_id=next_id(parent),
        )
        done = {receipt.record.shard for receipt in receipts}
        descriptors = [task for shard, task in tasks.items() if shard not in done]
        stream_shards(descriptors, EmbedWorker, job, pool=settings.pool, size=size, describe="embed new items")

    return Edit(
        run=items.run, shards=tuple(tasks), write=write, changed=num_items, num_rows=parent.num_rows + num_items
    )


def _new_items(store: Store, parent: Manifest, source: Source) -> Source:
    """The items that the version does not have, by their ids or keys."""
    there = ids_in_source(source, parent.keys)
    if parent.keys is not None:
        return source.take(np.flatnonzero(ids_or_none(store, parent, there, source.spec) == NOT_THERE))
    found = (ids_N for _, ids_N in shards_with(store, parent, np.sort(source.ids_N)))
    known = np.concatenate([source.ids_N[:0], *found])
    return source.take(np.flatnonzero(~np.isin(source.ids_N, known)))


def next_id(parent: Manifest) -> int:
    """The first id that items get which join a version with keys: after the largest one."""
    return 1 + max(record.id_max for record in parent.shards)


def _next_shard(parent: Manifest) -> int:
    return 1 + max(record.shard for record in parent.shards)


def _check_encoder(seen: EncoderRef, parent: Manifest) -> None:
    if parent.queries and parent.transformation is not None:
        wanted = parent.transformation.from_encoder  # new items go through the map that made the version
        if seen.fingerprint != wanted:
            raise EncoderMismatchError(
                f"new items of encoder {seen.name!r} ({seen.fingerprint[:12]}) cannot join version {parent.version}: its "
                f"vectors were made from those of the model {wanted[:12]}: embed them with that one"
            )
        return
    if seen.fingerprint != parent.encoder.fingerprint:
        raise EncoderMismatchError(
            f"new items of encoder {seen.name!r} ({seen.fingerprint[:12]}) cannot join version {parent.version}, whose "
            f"encoder is {parent.encoder.name!r} ({parent.encoder.fingerprint[:12]}): embed them with that one (was the "
            "store upgraded meanwhile?)"
        )


def _check_side(side_uri: EncoderSpec | None, parent: Manifest) -> None:
    seen, wanted = None if side_uri is None else open_encoder(side_uri).fingerprint, parent.side_info
    if seen != (None if wanted is None else wanted.fingerprint):
        raise SettingsError(
            f"--side has fingerprint {seen}; want that of the side-information in version {parent.version}: "
            f"{'there is none, leave --side out' if wanted is None else f'{wanted.name!r} ({wanted.fingerprint})'}"
        )


def _check_new(store: Store, parent: Manifest, ids_N: IdArray) -> None:
    for record, hits_N in shards_with(store, parent, ids_N):
        if len(hits_N):
            raise DataError(
                f"id {hits_N[0]} is in the gallery already ({record.embeddings.path}; {len(hits_N):,} of the new items are "
                "in that shard); want new ids: delete those items first, or leave them out"
            )
