"""Adopting: a store made out of Parquet embeddings that already lie somewhere, in place.

Owns: that every object is read once (hash, columns, values, ids; by Ray tasks), fits the others, and shares no id with
them. Nothing is copied: the manifest holds absolute URIs. An adopted version has no index and is searched exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError
from fct_ray.plan.identity import run_id
from fct_ray.plan.versions import adopted_manifest
from fct_ray.shards.model_directory import EncoderChoice, resolve_encoder
from fct_ray.shards.read import Inspected, inspect_shard
from fct_ray.shards.rewrite import EditJob, write_edited
from fct_ray.shards.write import OutputJob
from fct_ray.storage import leases, objects, paths
from fct_ray.storage.store import Store
from fct_ray.values import Current, Manifest, Metric, ShardRecord, SideInfoRef, Usage
from fct_ray.workflows.bad_rows import BadRowSettings, list_bad_rows
from fct_ray.workflows.run_log import RunLog, now
from fct_ray.workflows.unique_ids import check_unique_ids


@dataclass(frozen=True, kw_only=True)
class AdoptSettings(BadRowSettings):
    """Make a store out of existing Parquet embeddings, where they lie: nothing is copied."""

    store: str
    """The store to make: a directory or s3:// prefix."""
    embeddings: str
    """Directory or glob of Parquet objects with `id`, `embedding` and optionally `side_info` columns."""
    encoder: str
    """The encoder that made them: a model directory, `package.module:factory`, or a name."""
    metric: Metric = Metric.IP
    """How the embeddings are compared: "ip" (inner product, also cosine of unit vectors) or "l2"."""
    side: str | None = None
    """The model that made `side_info`: as `encoder`. None: named after the encoder."""


def run_adopt(settings: AdoptSettings) -> tuple[Manifest, dict[str, Usage]]:
    """Read every object once, check it, and publish a version that points at them; returns it and the work per stage.

    Raises:
        NotFoundError: there is no Parquet object at that place.
        FormatError: columns are missing or dimensions differ between objects.
        DataError: NaN or infinite values, or duplicate ids, named by object and row.
    """
    store = Store(settings.store)
    current, choice = store.current(), resolve_encoder(settings.encoder, store)
    uris = objects.expand_glob(settings.embeddings)
    paths.adopted_root(uris)  # refuses names that no manifest may hold, before anything is read
    run = run_id(
        "adopt",
        *uris,
        choice.ref.fingerprint,
        settings.metric.value,
        str(settings.on_bad_row),
        "" if current is None else current.sha256,
    )
    with leases.take(store, run, run):
        return _adopt(settings, store, current, choice, uris, run)


def _adopt(
    settings: AdoptSettings, store: Store, current: Current | None, choice: EncoderChoice, uris: list[str], run: str
) -> tuple[Manifest, dict[str, Usage]]:
    log, version = RunLog(store, run), store.claim_version(run, None if current is None else current.version)
    with log.stage("stream") as meter:
        found: dict[int, Inspected] = {}
        tasks = [(shard, uri, settings.on_bad_row) for shard, uri in enumerate(uris)]
        for position, inspected in map_tasks(inspect_shard, tasks, describe="read and check"):
            found[position] = inspected
            meter.add(inspected.usage.replace(rows=0) if inspected.num_bad_rows else inspected.usage)
        inspected_all = [found[position] for position in range(len(uris))]
        check_same(inspected_all)
        records = _without_bad_rows(settings, store, version, run, inspected_all)
        check_unique_ids(store, records)
    first = inspected_all[0]
    with log.stage("publish"), leases.publishing(store, run):
        manifest = adopted_manifest(
            version=version,
            created_at=now(),
            encoder=choice.ref,
            dimension=first.dimension,
            metric=settings.metric,
            normalized=all(inspected.normalized for inspected in inspected_all),
            side_info=_side_info(settings, first, store),
            records=records,
            run=run,
            parent=None if current is None else current.version,
            adopted_from=paths.adopted_root(uris),
        )
        store.publish(manifest, expected=current)
    return manifest, log.used()


def _without_bad_rows(
    settings: AdoptSettings,
    store: Store,
    version: int,
    run: str,
    inspected_all: Sequence[Inspected],
) -> list[ShardRecord]:
    """All shards; objects with bad rows are copied into the store without them, for adopted objects are never changed."""
    damaged = [inspected.record for inspected in inspected_all if inspected.num_bad_rows]
    if not damaged:
        return [inspected.record for inspected in inspected_all]
    first = inspected_all[0]
    output = OutputJob(
        store_uri=store.uri,
        version=version,
        run=run,
        metric=settings.metric,
        dimension=first.dimension,
        index=None,
        threads=1,
        on_bad_row=settings.on_bad_row,
        max_bad_rows=settings.max_bad_rows,
    )
    job = EditJob(output=output, side_dimension=first.side_dimension)
    for _ in map_tasks(write_edited, damaged, job, describe="copy without bad rows"):
        pass
    receipts = store.ledger(run)
    list_bad_rows(store, run, receipts, settings.max_bad_rows)
    copied = {receipt.record.shard: receipt.record for receipt in receipts}
    return [copied.get(inspected.record.shard, inspected.record) for inspected in inspected_all]


def check_same(inspected_all: Sequence[Inspected]) -> None:
    """Refuse objects whose dimensions or side-information differ from the first one's."""
    first = inspected_all[0]
    for other in inspected_all:
        seen = (other.dimension, other.side_dimension, other.side_dtype)
        wanted = (first.dimension, first.side_dimension, first.side_dtype)
        if seen != wanted:
            raise FormatError(
                f"{other.record.embeddings.path}: (dimension, side dimension, side dtype) is {seen}; want {wanted} as in "
                f"{first.record.embeddings.path}: one store holds one kind of embedding"
            )


def _side_info(settings: AdoptSettings, first: Inspected, store: Store) -> SideInfoRef | None:
    if first.side_dimension is None:
        if settings.side is not None:
            raise FormatError(
                f"{first.record.embeddings.path}: has no side_info column, but --side {settings.side} was given; want "
                "fixed_size_list<float32>[s]: leave --side out, or add the column"
            )
        return None
    if settings.side is not None:
        side = resolve_encoder(settings.side, store).ref
        name, fingerprint = side.name, side.fingerprint
    else:
        name = f"{settings.encoder}-side"
        fingerprint = hashlib.sha256(f"name:{name}".encode()).hexdigest()
    return SideInfoRef(
        name=name, fingerprint=fingerprint, dimension=first.side_dimension, dtype=first.side_dtype or "float32"
    )
