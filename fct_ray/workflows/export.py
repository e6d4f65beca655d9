"""A version written to another system: planned, shard by shard, read back, then switched to as that system does it.

    plan        place, schema, what is there now; refused before a worker starts
      -> shards       one Ray task each; a receipt in runs/<run id>/exported/ once it is in the new table
      -> finish       the index of the new table
      -> verify       its rows are counted, and some of every shard fetched and compared
      -> switch       the new table takes the place of the one in use

Owns: that order, and going on after a kill. What is in the other system carries the run's name; a table there that carries
another one is not touched, unless it is to be replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fct_ray.connectors.places import Place, parse_place
from fct_ray.connectors.protocols import Destination, Present, Target, TargetSchema
from fct_ray.connectors.registry import open_destination
from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.identity import run_id
from fct_ray.settings import CheckedSettings, Count, NumBytes
from fct_ray.shards import faiss_destination
from fct_ray.shards.exported_shard import ExportedShard, ExportJob, export_shard, receipt_path
from fct_ray.storage import documents, objects
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ShardRecord, Usage
from fct_ray.workflows.commit import RunInProgress, run_in_progress
from fct_ray.workflows.exported_index import FaissChoice, faiss_choice, trained_template
from fct_ray.workflows.exported_rows import check_exported
from fct_ray.workflows.exported_schema import ExportColumns, schema_of

logger = logging.getLogger(__name__)
LOCAL_SYSTEMS = ("parquet", "huggingface", "faiss", "lancedb")
"""Systems whose address may be a path, which is made absolute."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings(CheckedSettings):
    """Write a version to another system: ids or keys, vectors, carried columns, metric."""

    store: str
    """The store: a directory or s3:// prefix."""
    to: str
    """Where to: "parquet:DIR", "huggingface:DIR", "faiss:FILE", "lancedb:DIR#TABLE", "pgvector:postgresql://USER@HOST/DB#TABLE".
    Passwords come from the environment (PGPASSWORD)."""
    version: Count | None = None
    """Which version. None: CURRENT."""
    replace: bool = False
    """Replace what is at that place now, as the system does it; without this it is refused."""
    columns: ExportColumns = field(default_factory=ExportColumns)
    """What the columns are called there."""
    leave_out: str | None = None
    """Carried columns that are not written, separated by commas."""
    verify_rows: Count = 8
    """How many rows of every shard are read back before the switch."""
    index: str | None = None
    """For faiss:FILE: the FAISS factory string. None: the version's own, or Flat where it has none."""
    memory_bytes: NumBytes = 2 * 2**30
    """For faiss:FILE: what the merged index may take in memory. A larger one is merged on the disk where its type can be
    (IVF), and refused where it cannot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPlan:
    """What the driver decided before any worker started."""

    settings: ExportSettings
    store: Store
    manifest: Manifest
    place: Place
    run: str
    schema: TargetSchema
    destination: Destination
    present: Present


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What became of an export, and the work of all attempts."""

    store: Store
    manifest: Manifest
    place: Place
    run: str
    stages: Mapping[str, Usage]
    num_compared: int = 0
    """How many rows were fetched and compared."""
    peak_memory_bytes: int = 0
    done_before: bool = False
    notes: tuple[str, ...] = ()


def plan_export(settings: ExportSettings) -> ExportPlan:
    """Look at the version, the place and what is there now; nothing is changed and no worker is started.

    Raises:
        SettingsError: the place cannot be exported to, cannot hold the columns, or is occupied.
        FctRayError: there is no such version, or the other system does not answer.
    """
    store = Store(settings.store)
    manifest, place = store.manifest(settings.version), _absolute(parse_place(settings.to))
    schema = schema_of(store, manifest, settings.columns, settings.leave_out, with_row_ids=place.system == "faiss")
    chosen = faiss_choice(manifest, settings.index, settings.memory_bytes) if place.system == "faiss" else None
    if chosen is None and settings.index is not None:
        raise SettingsError(
            f"--index {settings.index}: is of faiss:FILE only, and {place} builds its own index; leave it out"
        )
    run = run_id(
        "export",
        store.manifest_bytes_sha256(manifest.version),
        str(place),
        schema.columns.to_string(),
        "" if chosen is None else f"{chosen.factory} {chosen.on_disk}",
    )
    target = Target(run=run, version=manifest.version, schema=schema, replace=settings.replace)
    destination = _destination(place, target, chosen)
    destination.check()
    present = destination.present()
    if present is Present.OTHER and not settings.replace:
        raise SettingsError(
            f"{place}: exists already, and this export did not make it; nothing was changed. Name another place, or add "
            "--replace to put this version in its place"
        )
    return ExportPlan(
        settings=settings,
        store=store,
        manifest=manifest,
        place=place,
        run=run,
        schema=schema,
        destination=destination,
        present=present,
    )


def run_export(plan: ExportPlan) -> Exported:
    """Write the version and switch to it; after a kill the same call goes on where it was, and once done it does nothing.

    Raises:
        FctRayError: a shard could not be written, or what was read back differs. What was in use at the place still is.
    """
    with run_in_progress(plan.store, plan.run, reads=(plan.manifest.version,)) as run:
        done_before = plan.present is Present.OURS
        num_compared = 0 if done_before else _fill(plan, run)
        with run.log.stage("publish"):
            run.lease.check()
            notes = tuple(plan.destination.switch())
        receipts = _receipts(plan)
        return Exported(
            store=plan.store,
            manifest=plan.manifest,
            place=plan.place,
            run=plan.run,
            stages=run.log.used(),
            num_compared=num_compared,
            peak_memory_bytes=max((receipt.peak_memory_bytes for receipt in receipts), default=0),
            done_before=done_before,
            notes=(*notes, *_notes(plan.manifest)),
        )


def _fill(plan: ExportPlan, run: RunInProgress) -> int:
    """Fill the new table, build its index, compare; returns how many rows were compared."""
    destination = _trained(plan, run)
    with run.log.stage("stream") as meter:
        _write_shards(plan, destination, meter)
        receipts = _receipts(plan)
        if len(receipts) != len(plan.manifest.shards):
            raise IncompleteRunError(
                f"{plan.place}: {len(receipts)} of {len(plan.manifest.shards)} shards are written; run the same command again"
            )
        destination.finish([receipt.written for receipt in receipts])
    with run.log.stage("verify"):
        return check_exported(plan.store, plan.run, destination, plan.schema, receipts, str(plan.place))


def _write_shards(plan: ExportPlan, destination: Destination, meter: StageMeter) -> None:
    receipts = _receipts(plan)
    if not destination.prepare([receipt.written for receipt in receipts]) and receipts:
        logger.warning("%s: what an earlier attempt wrote is gone; all shards are written again", plan.place)
        objects.delete([plan.store.uri_of(receipt_path(plan.run, receipt.shard)) for receipt in receipts])
        receipts = []
    done = {receipt.shard for receipt in receipts}
    to_do = [record for record in plan.manifest.shards if record.shard not in done]
    side = plan.manifest.side_info
    job = ExportJob(
        store_uri=plan.store.uri,
        run=plan.run,
        reading=Reading.of(plan.manifest),
        schema=plan.schema,
        side_dimension=None if side is None else side.dimension,
        destination=destination,
        sample_rows=plan.settings.verify_rows,
    )
    for _ in map_tasks(export_shard, to_do, job, describe=f"export to {plan.place.system}", name=_shard_name):
        meter.add(Usage())  # each task records its own work, which is kept if this process is killed


def _trained(plan: ExportPlan, run: RunInProgress) -> Destination:
    """The destination; that of a FAISS file with the trained index that its parts start from."""
    if not isinstance(plan.destination, faiss_destination.FaissFile):
        return plan.destination
    template = trained_template(plan.store, plan.manifest, plan.destination.factory, run)
    return replace(plan.destination, template=template)


def _destination(place: Place, target: Target, chosen: FaissChoice | None) -> Destination:
    if chosen is None:
        return open_destination(place, target)
    return faiss_destination.FaissFile(
        path=place.address, target=target, factory=chosen.factory, on_disk=chosen.on_disk, template=None
    )


def _absolute(place: Place) -> Place:
    return replace(place, address=objects.absolute(place.address)) if place.system in LOCAL_SYSTEMS else place


def _shard_name(record: ShardRecord) -> str:
    return f"shard {record.shard}"


def _receipts(plan: ExportPlan) -> list[ExportedShard]:
    uris = objects.list_uris(plan.store.uri_of(f"runs/{plan.run}/exported"))
    found = [documents.load(ExportedShard, objects.read_bytes(uri), uri) for uri in uris if uri.endswith(".json")]
    return sorted(found, key=lambda receipt: receipt.shard)


def _notes(manifest: Manifest) -> Sequence[str]:
    if not manifest.queries:
        return ()
    roles = ", ".join(f"{query.role.value} ({query.encoder.name})" for query in manifest.queries)
    said = (
        f"a query of this version joins several embeddings: {roles}; the exported vectors are compared with what the "
        "version's own searcher makes of these"
    )
    return (said,)
