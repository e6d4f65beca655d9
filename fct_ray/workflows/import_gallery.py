"""Importing: a store made out of a gallery that lies in another system, by streaming; the other system is only read.

    plan: state of the table, its columns, its parts        the same command again finds this run, finished or to go on with
      -> one task a part: read -> the rules of adopt -> shard, receipt
      -> ids unique -> manifest -> publish

Owns: the settings, and what is the same for all parts. How a system is read is `connectors/`, what becomes of columns the
rule of `adopt`. An imported version has no index and is searched exactly; an upgrade makes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from fct_ray.connectors.places import from_anywhere, parse_place
from fct_ray.connectors.protocols import ForeignTable, Part
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError, SettingsError, SourceError
from fct_ray.kinds import KeyType, Metric, OnBadRow, VectorMetric
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.identity import run_id
from fct_ray.plan.versions import embedded_manifest
from fct_ray.settings import Count
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, resolve_encoder
from fct_ray.shards.foreign_tables import open_table
from fct_ray.shards.imported_part import ImportJob, PartFacts, PartTask, facts_uri, import_part, part_name
from fct_ray.shards.shard_output import OutputJob
from fct_ray.storage import documents, gallery_reader, object_schema, objects, shards, vector_columns
from fct_ray.storage.adopted_tables import keys_in
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import Current, Manifest, Receipt, SideInfoRef
from fct_ray.workflows.adopt import ColumnNames
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
from fct_ray.workflows.unique_ids import check_unique_ids

LOOKED_AT_ROWS = 1_000
"""First rows that dimensions are taken from, and whether vectors have length 1 before they are cut."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings(BadRowSettings):
    """Make a store out of a gallery that lies in another system: a database, a table format, files of other tools."""

    store: str
    """The store to make: a directory or s3:// prefix."""
    origin: str
    """Where the gallery is, SYSTEM:ADDRESS[#TABLE]: npy:DIR, faiss:FILE, huggingface:DIR_OR_NAME#SPLIT, delta:DIR,
    iceberg:METADATA_JSON, lance:DIR, lancedb:DIR#TABLE, pgvector:postgresql://user@host/db#TABLE. It is only read."""
    columns: ColumnNames = field(default_factory=ColumnNames)
    """What its columns are called."""
    encoder: str
    """The encoder that made the vectors: a model directory, `package.module:factory`, a pretrained model by name, or any
    name."""
    side: str | None = None
    """The model that made the side-information: as `encoder`. None: named after the encoder."""
    metric: VectorMetric | None = None
    """How the vectors are compared: "ip" (inner product), "l2", or "cosine", which scales them to length 1. None: as the
    system says, else "ip"."""
    truncate: Count | None = None
    """Keep only so many leading numbers of each vector (of a Matryoshka model)."""
    rows_per_shard: Count = 50_000
    """Rows that a worker reads at a time, and of a shard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportPlan:
    """What the driver decided before any worker started."""

    settings: ImportSettings
    store: Store
    current: Current | None
    choice: EncoderChoice
    side: EncoderSpec | None
    mark: str
    parts: tuple[Part, ...]
    reading: Reading
    metric: Metric
    dimension: int
    side_dimension: int | None
    side_dtype: str | None
    run: str
    finished: Manifest | None
    """The version that this very command published already, if it has."""


def plan_import(
    settings: ImportSettings, *, encoder: EncoderSpec | None = None, side: EncoderSpec | None = None
) -> ImportPlan:
    """Look at the table, its columns and first rows, and cut it into parts; nothing is written.

    Raises:
        SettingsError: a system or library is not there, or settings contradict what the system says.
        SourceError: there is no such table, or it has no rows.
        FormatError: a column is missing or cannot be used, and which flag may name it.
    """
    settings = replace(settings, origin=str(from_anywhere(parse_place(settings.origin))))
    store = Store(settings.store)
    current, newest = published_now(store)
    choice = resolve_encoder(settings.encoder if encoder is None else encoder, store)
    table = open_table(settings.origin)
    metric, normalize = _metric(settings, table)
    layout = settings.columns.layout(truncate=settings.truncate, normalize=normalize)
    head = table.head(LOOKED_AT_ROWS)
    object_schema.check_schema(settings.origin, head.schema, layout, lambda names: _first_batch(head.select(names)))
    parts = tuple(table.parts(settings.rows_per_shard))
    if not parts or not head.num_rows:
        raise SourceError(f"{settings.origin}: has no rows; want at least one")
    keys = keys_in(head.schema, layout, settings.origin)
    layout = replace(layout, normalize=normalize or _cuts_unit_vectors(settings, head, keys, metric))
    reading = Reading(layout=layout, keys=keys)
    columns = _parsed(head, reading, settings.origin)
    decisive = (
        settings.origin,
        table.mark,
        documents.dump(layout).decode(),
        choice.ref.fingerprint,
        str(metric),
        str(settings.rows_per_shard),
        str(settings.on_bad_row),
    )

    def run_of(parent: Manifest | None) -> str:
        return run_id("import", *decisive, "" if parent is None else store.manifest_bytes_sha256(parent.version))

    finished = published_by(store, newest, run_of)
    side_NS = _side_of(columns, settings, given=side is not None)
    return ImportPlan(
        settings=settings,
        store=store,
        current=current,
        choice=choice,
        side=settings.side if side is None else side,
        mark=table.mark,
        parts=parts,
        reading=reading,
        metric=metric,
        dimension=columns.embeddings_ND.shape[1],
        side_dimension=None if side_NS is None else side_NS.shape[1],
        side_dtype=None if side_NS is None else shards.side_dtype(columns.table) or "float32",
        run=run_of(newest) if finished is None else finished.run,
        finished=finished,
    )


def run_import(plan: ImportPlan) -> Committed:
    """Read every part once, and publish a version of them; run again after a kill, it resumes, and once done does nothing.

    Raises:
        SourceError: the table was changed meanwhile, or does not answer.
        DataError: rows that cannot be used, or duplicate ids.
    """
    if plan.finished is not None:
        return committed_before(plan.store, plan.run, plan.finished)

    def write(run: RunInProgress, version: int, meter: StageMeter) -> bool:
        done = {receipt.record.shard for receipt in run.ledger()}
        starts = np.cumsum([0, *(part.rows for part in plan.parts)])
        todo = [
            PartTask(part=part, first_id=int(starts[part.number])) for part in plan.parts if part.number not in done
        ]
        job = _job(plan, version)
        named = {task.part.number: part_name(plan.settings.origin, task.part) for task in todo}
        for _, usage in map_tasks(import_part, todo, job, describe="import", name=lambda task: named[task.part.number]):
            meter.add(usage)
        if not plan.reading.by_position:
            check_unique_ids(plan.store, [receipt.record for receipt in run.ledger()])
        return _all_unit(plan)

    def manifest(version: int, all_unit: bool, receipts: Sequence[Receipt]) -> Manifest:
        return _manifest(plan, version, receipts, normalized=plan.reading.layout.normalize or all_unit)

    return commit(
        VersionToMake(
            store=plan.store,
            run=plan.run,
            current=plan.current,
            parent=None if plan.current is None else plan.current.version,
            write=write,
            manifest=manifest,
            bad_rows=plan.settings,
        )
    )


def _side_of(
    columns: shards.ShardColumns, settings: ImportSettings, *, given: bool
) -> vector_columns.FloatArray | None:
    """The side-information of the first rows. Raises FormatError: its model is named, and there is none."""
    if columns.side_info_NS is None and (given or settings.side is not None):
        raise FormatError(
            f"{settings.origin}: has no column of side-information, but --side {settings.side} was given; leave it out, or "
            "name the column (--columns.side-info)"
        )
    return columns.side_info_NS


def _metric(settings: ImportSettings, table: ForeignTable) -> tuple[Metric, bool]:
    """The metric, and whether vectors are scaled to length 1. Raises SettingsError: it contradicts the system."""
    if settings.metric is None:
        asked = table.metric or VectorMetric.IP
    else:
        asked = settings.metric
    if table.metric is not None and table.metric is not asked:
        raise SettingsError(
            f"{settings.origin}: its vectors are compared by {table.metric}, and --metric {settings.metric} was given; leave "
            "--metric out"
        )
    return Metric.IP if asked is VectorMetric.COSINE else Metric(asked), asked is VectorMetric.COSINE


def _cuts_unit_vectors(settings: ImportSettings, head: pa.Table, keys: KeyType | None, metric: Metric) -> bool:
    """Whether vectors of length 1 are cut, so that what is kept is scaled to length 1 again; the first rows say so."""
    if settings.truncate is None or metric is not Metric.IP:
        return False
    whole = Reading(layout=settings.columns.layout(), keys=keys)
    return not vector_columns.without_unit_length(_parsed(head, whole, settings.origin).embeddings_ND).any()


def _parsed(head: pa.Table, reading: Reading, origin: str) -> shards.ShardColumns:
    return gallery_reader.parse_object(
        head, origin, reading.layout, reading.keys, 0, OnBadRow.QUARANTINE, dimension=None, side_dimension=None
    )[0]


def _first_batch(table: pa.Table) -> pa.RecordBatch | None:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else None


def _job(plan: ImportPlan, version: int) -> ImportJob:
    output = OutputJob(
        store_uri=plan.store.uri,
        version=version,
        run=plan.run,
        metric=plan.metric,
        dimension=plan.dimension,
        index=None,
        threads=1,
        on_bad_row=plan.settings.on_bad_row,
        max_bad_rows=plan.settings.max_bad_rows,
    )
    return ImportJob(
        output=output,
        place=plan.settings.origin,
        mark=plan.mark,
        reading=plan.reading,
        dimension=plan.dimension,
        side_dimension=plan.side_dimension,
    )


def _all_unit(plan: ImportPlan) -> bool:
    """Whether every vector has length 1 (or 0), by what was kept of every part."""
    uris = [facts_uri(plan.store, plan.run, part.number) for part in plan.parts]
    facts = [documents.load(PartFacts, objects.read_bytes(uri), uri) for uri in uris]
    return all(fact.id_not_unit is None for fact in facts)


def _manifest(plan: ImportPlan, version: int, receipts: Sequence[Receipt], *, normalized: bool) -> Manifest:
    return embedded_manifest(
        version=version,
        created_at=now(),
        encoder=plan.choice.ref,
        dimension=plan.dimension,
        metric=plan.metric,
        normalized=normalized,
        side_info=_side_info(plan),
        index=None,
        receipts=receipts,
        num_shards=len(plan.parts),
        num_rows=sum(part.rows for part in plan.parts),
        run=plan.run,
        parent=None if plan.current is None else plan.current.version,
        keys=plan.reading.keys,
    )


def _side_info(plan: ImportPlan) -> SideInfoRef | None:
    if plan.side_dimension is None or plan.side_dtype is None:
        return None
    if plan.side is not None:
        side = resolve_encoder(plan.side, plan.store).ref
        name, fingerprint = side.name, side.fingerprint
    else:
        name = f"{plan.settings.encoder}-side"
        fingerprint = hashlib.sha256(f"name:{name}".encode()).hexdigest()
    return SideInfoRef(name=name, fingerprint=fingerprint, dimension=plan.side_dimension, dtype=plan.side_dtype)
