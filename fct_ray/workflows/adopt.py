"""Adopting: a store made out of Parquet embeddings that already lie somewhere, in place.

Owns: that every object is read once (hash, columns, values, ids; by Ray tasks), fits the others, and shares no id with
them. The manifest holds absolute URIs; copied is only what it cannot point at: objects with bad rows, thousands of small
ones, slices of a huge row group. An adopted version has no index and is searched exactly.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fct_ray.errors import FormatError, SettingsError
from fct_ray.kinds import Metric, VectorMetric
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.identity import run_id
from fct_ray.plan.portions import SHARD_BYTES
from fct_ray.plan.versions import adopted_manifest
from fct_ray.settings import CheckedSettings, Count, NumBytes
from fct_ray.shards.edited_shard import EditJob
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, resolve_encoder
from fct_ray.shards.inspected_objects import Inspected
from fct_ray.shards.shard_output import OutputJob
from fct_ray.storage import documents, object_schema, objects, parquet_listing, paths
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout, Current, Manifest, Receipt, ShardRecord, SideInfoRef
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.commit import (
    Committed,
    RunInProgress,
    VersionToMake,
    commit,
    committed_before,
    now,
    published_by,
    published_now,
)
from fct_ray.workflows.inspection import InspectedObjects, copy_into_store, inspect_objects
from fct_ray.workflows.unique_ids import check_unique_ids

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ColumnNames(CheckedSettings):
    """What columns are called in the Parquet objects."""

    id: str = "id"
    """The column of ids: whole numbers, text, UUIDs or binary. "row": there is none, items are numbered from 0 on."""
    embedding: str = "embedding"
    """The column of embeddings."""
    side_info: str = "side_info"
    """The column of side-information, if there is one."""
    label: str = "label"
    """The column of labels, if there is one."""

    def layout(self, *, truncate: int | None = None, normalize: bool = False) -> AdoptedLayout:
        """How objects with these columns are read. Raises SettingsError: one name is given twice."""
        names = (self.id, self.embedding, self.side_info, self.label)
        if len(set(names)) < len(names):
            raise SettingsError(f"--columns names one column twice: {names}; want a column for each of them")
        return AdoptedLayout(
            id=self.id,
            embedding=self.embedding,
            side_info=self.side_info,
            label=self.label,
            truncate=truncate,
            normalize=normalize,
        )


@dataclass(frozen=True, kw_only=True)
class AdoptSettings(BadRowSettings):
    """Make a store out of existing Parquet embeddings, where they lie: nothing is copied."""

    store: str
    """The store to make: a directory or s3:// prefix."""
    embeddings: str
    """Directory or glob of Parquet objects with columns of ids and embeddings, and optionally of side-information."""
    columns: ColumnNames = field(default_factory=ColumnNames)
    """What these columns are called."""
    encoder: str
    """The encoder that made them: a model directory, `package.module:factory`, a pretrained model by name, or any name."""
    metric: VectorMetric = VectorMetric.IP
    """How the embeddings are compared: "ip" (inner product, also cosine of unit vectors), "l2", or "cosine": vectors are
    scaled to length 1 whenever they are read, and compared by inner product."""
    truncate: Count | None = None
    """Keep only so many leading numbers of each embedding (of a Matryoshka model); where all embeddings had length 1 and
    the metric is an inner product, what is kept is scaled to length 1."""
    shard_bytes: NumBytes = SHARD_BYTES
    """What a shard may take when it is decompressed: larger objects become several shards of whole row groups. A worker
    of an upgrade needs about ten times as much."""
    side: str | None = None
    """The model that made `side_info`: as `encoder`. None: named after the encoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptPlan:
    """What the driver decided before any worker started."""

    settings: AdoptSettings
    store: Store
    current: Current | None
    choice: EncoderChoice
    side: EncoderSpec | None
    uris: tuple[str, ...]
    layout: AdoptedLayout
    """How the objects are read, but for what only all of them show: whether truncated vectors are scaled."""
    metric: Metric
    run: str
    finished: Manifest | None
    """The version that this very command published already, if it has."""


def plan_adopt(
    settings: AdoptSettings, *, encoder: EncoderSpec | None = None, side: EncoderSpec | None = None
) -> AdoptPlan:
    """Find the objects and the encoder, and look at the columns of the first object; nothing else is read yet.

    `encoder` and `side` are the encoders themselves, where there is more of them than the names in the settings.

    Raises:
        NotFoundError: there is no Parquet object at that place.
        FormatError: an object has a name that no manifest may hold, or belongs to a Delta Lake, Iceberg or Hudi table; or
            the first one lacks a column, and which flag may name it.
    """
    store = Store(settings.store)
    current, newest = published_now(store)
    choice = resolve_encoder(settings.encoder if encoder is None else encoder, store)
    uris = parquet_listing.list_parquet(settings.embeddings)
    paths.adopted_root(uris)
    layout = settings.columns.layout(truncate=settings.truncate, normalize=settings.metric is VectorMetric.COSINE)
    marks = objects.marks(uris)
    object_schema.check_object(uris[0], layout)
    decisive = (*uris, *marks, choice.ref.fingerprint, str(settings.metric), str(settings.on_bad_row))
    if layout != AdoptedLayout() or settings.shard_bytes != SHARD_BYTES:  # others keep the ids that their runs had
        decisive = (*decisive, documents.dump(layout).decode(), str(settings.shard_bytes))

    def run_of(parent: Manifest | None) -> str:
        return run_id("adopt", *decisive, "" if parent is None else store.manifest_bytes_sha256(parent.version))

    finished = published_by(store, newest, run_of)
    return AdoptPlan(
        settings=settings,
        store=store,
        current=current,
        choice=choice,
        side=settings.side if side is None else side,
        uris=tuple(uris),
        layout=layout,
        metric=Metric.IP if settings.metric is VectorMetric.COSINE else Metric(settings.metric),
        run=run_of(newest) if finished is None else finished.run,
        finished=finished,
    )


def run_adopt(plan: AdoptPlan) -> Committed:
    """Read every object once, check it, and publish a version that points at them; once done it does nothing.

    Raises:
        FormatError: columns are missing or dimensions differ between objects.
        DataError: NaN or infinite values, or duplicate ids, named by object and row.
    """
    if plan.finished is not None:
        return committed_before(plan.store, plan.run, plan.finished)
    notes: list[str] = []

    def write(run: RunInProgress, version: int, meter: StageMeter) -> _Written:
        inspected = inspect_objects(
            plan.uris, plan.layout, plan.settings.on_bad_row, meter, shard_bytes=plan.settings.shard_bytes
        ).numbered(plan.layout, first_shard=0, first_id=0, by_hash=False)
        layout = _layout_of(plan, inspected)
        reading = Reading(layout=layout, keys=inspected.keys)
        for note in inspected.notes():
            logger.warning("%s", note)
            notes.append(note)
        _copy(plan, version, inspected, reading, run.ledger())
        copied = {receipt.record.shard: receipt.record for receipt in run.ledger()}
        records = [copied.get(seen.record.shard, seen.record) for seen in inspected.with_rows]
        if not reading.by_position:
            check_unique_ids(plan.store, records, reading)
        return _Written(inspected=inspected, records=records, layout=layout)

    def manifest(version: int, written: _Written, _: Sequence[Receipt]) -> Manifest:
        return _manifest(plan, version, written)

    parent = None if plan.current is None else plan.current.version
    done = commit(
        VersionToMake(
            store=plan.store,
            run=plan.run,
            current=plan.current,
            parent=parent,
            write=write,
            manifest=manifest,
            bad_rows=plan.settings,
        )
    )
    return replace(done, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """What was seen of the objects, and the shards of the version."""

    inspected: InspectedObjects
    records: Sequence[ShardRecord]
    layout: AdoptedLayout


def _layout_of(plan: AdoptPlan, inspected: InspectedObjects) -> AdoptedLayout:
    """The layout with what all objects together show: vectors of length 1 that are cut are scaled again."""
    cut_units = plan.layout.truncate is not None and inspected.ids_not_unit is None and plan.metric is Metric.IP
    return replace(plan.layout, normalize=plan.layout.normalize or cut_units)


def _manifest(plan: AdoptPlan, version: int, written: _Written) -> Manifest:
    inspected, layout = written.inspected, written.layout
    first, keys = inspected.with_rows[0], inspected.keys
    plain = keys is None and layout == AdoptedLayout() and all(seen.plain for seen in inspected.with_rows)
    return adopted_manifest(
        version=version,
        created_at=now(),
        encoder=plan.choice.ref,
        dimension=layout.truncate or first.dimension,
        metric=plan.metric,
        normalized=layout.normalize or (layout.truncate is None and inspected.ids_not_unit is None),
        side_info=_side_info(plan, first),
        records=written.records,
        run=plan.run,
        parent=None if plan.current is None else plan.current.version,
        adopted_from=paths.adopted_root(plan.uris),
        keys=keys,
        layout=None if plain else layout,
    )


def _copy(
    plan: AdoptPlan, version: int, inspected: InspectedObjects, reading: Reading, receipts: Sequence[Receipt]
) -> None:
    """Copy into the store what no manifest can point at; adopted objects are never changed."""
    first = inspected.with_rows[0]
    output = OutputJob(
        store_uri=plan.store.uri,
        version=version,
        run=plan.run,
        metric=plan.metric,
        dimension=reading.layout.truncate or first.dimension,
        index=None,
        threads=1,
        on_bad_row=plan.settings.on_bad_row,
        max_bad_rows=plan.settings.max_bad_rows,
    )
    job = EditJob(output=output, side_dimension=first.side_dimension, reading=reading)
    copy_into_store(inspected.copies(), job, receipts)


def _side_info(plan: AdoptPlan, first: Inspected) -> SideInfoRef | None:
    if first.side_dimension is None:
        if plan.side is not None:
            raise FormatError(
                f"{first.record.embeddings.path}: has no column of side-information, but --side {plan.settings.side} was "
                "given; want fixed_size_list<float32>[s]: leave --side out, name the column (--columns.side-info), or add it"
            )
        return None
    if plan.side is not None:
        side = resolve_encoder(plan.side, plan.store).ref
        name, fingerprint = side.name, side.fingerprint
    else:
        name = f"{plan.settings.encoder}-side"
        fingerprint = hashlib.sha256(f"name:{name}".encode()).hexdigest()
    return SideInfoRef(
        name=name, fingerprint=fingerprint, dimension=first.side_dimension, dtype=first.side_dtype or "float32"
    )
