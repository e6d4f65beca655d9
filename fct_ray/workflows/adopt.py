"""Adopting: a store made out of Parquet embeddings that already lie somewhere, in place.

Owns: that every object is read once (hash, columns, values, ids; by Ray tasks), fits the others, and shares no id with
them. Nothing is copied: the manifest holds absolute URIs. An adopted version has no index and is searched exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError
from fct_ray.kinds import Metric
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.identity import run_id
from fct_ray.plan.versions import adopted_manifest
from fct_ray.shards.edited_shard import EditJob, write_edited
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, resolve_encoder
from fct_ray.shards.shard_output import OutputJob
from fct_ray.shards.stored_rows import Inspected
from fct_ray.storage import objects, parquet_listing, paths
from fct_ray.storage.store import Store
from fct_ray.values import Current, Manifest, Receipt, ShardRecord, SideInfoRef
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
from fct_ray.workflows.inspection import InspectedObjects, inspect_objects
from fct_ray.workflows.unique_ids import check_unique_ids


@dataclass(frozen=True, kw_only=True)
class AdoptSettings(BadRowSettings):
    """Make a store out of existing Parquet embeddings, where they lie: nothing is copied."""

    store: str
    """The store to make: a directory or s3:// prefix."""
    embeddings: str
    """Directory or glob of Parquet objects with `id`, `embedding` and optionally `side_info` columns."""
    encoder: str
    """The encoder that made them: a model directory, `package.module:factory`, a pretrained model by name, or any name."""
    metric: Metric = Metric.IP
    """How the embeddings are compared: "ip" (inner product, also cosine of unit vectors) or "l2"."""
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
    run: str
    finished: Manifest | None
    """The version that this very command published already, if it has."""


def plan_adopt(
    settings: AdoptSettings, *, encoder: EncoderSpec | None = None, side: EncoderSpec | None = None
) -> AdoptPlan:
    """Find the objects and the encoder; nothing is read yet.

    `encoder` and `side` are the encoders themselves, where there is more of them than the names in the settings.

    Raises:
        NotFoundError: there is no Parquet object at that place.
        FormatError: an object has a name that no manifest may hold, or belongs to a Delta Lake, Iceberg or Hudi table.
    """
    store = Store(settings.store)
    current, newest = published_now(store)
    choice = resolve_encoder(settings.encoder if encoder is None else encoder, store)
    uris = parquet_listing.list_parquet(settings.embeddings)
    paths.adopted_root(uris)
    decisive = (*uris, *objects.marks(uris), choice.ref.fingerprint, settings.metric.value, str(settings.on_bad_row))

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

    def write(run: RunInProgress, version: int, meter: StageMeter) -> tuple[InspectedObjects, list[ShardRecord]]:
        inspected = inspect_objects(plan.uris, plan.settings.on_bad_row, meter)
        _copy_without_bad_rows(plan, version, inspected.with_rows)
        copied = {receipt.record.shard: receipt.record for receipt in run.ledger()}
        records = [copied.get(seen.record.shard, seen.record) for seen in inspected.with_rows]
        check_unique_ids(plan.store, records)
        notes.extend(inspected.notes())
        return inspected, records

    def manifest(version: int, seen: tuple[InspectedObjects, list[ShardRecord]], _: Sequence[Receipt]) -> Manifest:
        return _manifest(plan, version, *seen)

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


def _manifest(plan: AdoptPlan, version: int, inspected: InspectedObjects, records: Sequence[ShardRecord]) -> Manifest:
    settings, first = plan.settings, inspected.with_rows[0]
    return adopted_manifest(
        version=version,
        created_at=now(),
        encoder=plan.choice.ref,
        dimension=first.dimension,
        metric=settings.metric,
        normalized=inspected.ids_not_unit is None,
        side_info=_side_info(plan, first),
        records=records,
        run=plan.run,
        parent=None if plan.current is None else plan.current.version,
        adopted_from=paths.adopted_root(plan.uris),
    )


def _copy_without_bad_rows(plan: AdoptPlan, version: int, inspected_all: Sequence[Inspected]) -> None:
    """Copy objects with bad rows into the store without them: adopted objects are never changed."""
    damaged, first = [inspected.record for inspected in inspected_all if inspected.num_bad_rows], inspected_all[0]
    output = OutputJob(
        store_uri=plan.store.uri,
        version=version,
        run=plan.run,
        metric=plan.settings.metric,
        dimension=first.dimension,
        index=None,
        threads=1,
        on_bad_row=plan.settings.on_bad_row,
        max_bad_rows=plan.settings.max_bad_rows,
    )
    job = EditJob(output=output, side_dimension=first.side_dimension)
    for _ in map_tasks(
        write_edited, damaged, job, describe="copy without bad rows", name=lambda record: f"shard {record.shard}"
    ):
        pass


def _side_info(plan: AdoptPlan, first: Inspected) -> SideInfoRef | None:
    if first.side_dimension is None:
        if plan.side is not None:
            raise FormatError(
                f"{first.record.embeddings.path}: has no side_info column, but --side {plan.settings.side} was given; want "
                "fixed_size_list<float32>[s]: leave --side out, or add the column"
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
