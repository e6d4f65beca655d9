"""The upgrade: an old version in, a new version out, or a refusal that changes nothing.

    plan -> pairs -> fit -> gate -> stream -> catch up -> verify -> publish
             |        |               |           |
             |        |               |           items appended or deleted meanwhile: their shards once more
             cached   checkpointed    ledger: a killed run resumes here without reading finished shards again

Owns: the order of the stages and what flows between them. Every decision is a function of plan/, every effect one of
the neighbours in this room.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import Metric, QueryRole
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.query_map import takes_new_alone
from fct_ray.plan.catch_up import check_catch_up
from fct_ray.plan.versions import upgraded_manifest
from fct_ray.shards.model_directory import load_model, packed_model, save_model
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import leases
from fct_ray.values import Current, EncoderRef, IndexRef, Manifest, QueryInput, Receipt, TransformationRef, Usage
from fct_ray.workflows.bad_rows import list_bad_rows
from fct_ray.workflows.commit import RunInProgress, now, run_in_progress
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.upgrade.evidence import item_queries
from fct_ray.workflows.upgrade.forecast import TargetSpace
from fct_ray.workflows.upgrade.judgement import JudgedWays, fit_and_judge, read_judged
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed
from fct_ray.workflows.verify import verify_version

logger = logging.getLogger(__name__)
FREE_ROUNDS = 3  # of catching up with appended and deleted items before writers are made to wait for the last one


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradeOutcome:
    """What an upgrade did; `published` is None after a refusal."""

    plan: UpgradePlan
    published: Manifest | None
    stages: Mapping[str, Usage]
    judged: JudgedWays | None = None
    recall: float | None = None
    peak_memory_bytes: int = 0
    num_bad_rows: int = 0
    notes: tuple[str, ...] = ()


def run_upgrade(plan: UpgradePlan, size: ClusterSize) -> UpgradeOutcome:
    """Do what was planned; run again after a kill, it resumes.

    A refusal by the gate is an outcome (nothing is published), not an exception: its report is still to be written.

    Raises:
        FctRayError: a stage failed. CURRENT is unchanged and finished shards are kept.
    """
    if plan.finished is not None:
        log = RunUsage(plan.store, plan.run)
        logger.info("run %s has published version %d already", plan.run, plan.finished.version)
        judged = read_judged(plan)
        return UpgradeOutcome(plan=plan, published=plan.finished, stages=log.used(), judged=judged)
    with run_in_progress(plan.store, plan.run, reads=(plan.parent.version,)) as run:
        judged, held_out = fit_and_judge(plan, run.log, size)
        if not judged.result.passed:
            return UpgradeOutcome(plan=plan, published=None, stages=run.log.used(), judged=judged)
        return _stream_and_publish(plan, judged, held_out, run, size)


def _stream_and_publish(
    plan: UpgradePlan, judged: JudgedWays, held_out: Pairs, run: RunInProgress, size: ClusterSize
) -> UpgradeOutcome:
    store, settings, transformation = plan.store, plan.settings, load_model(judged.uri)
    space, queries = _space(plan, judged), query_map_at(judged.uri)
    queries_QW = queries({role: item_queries(held_out)[QueryRole(role)] for role in queries.needs})
    stream = TransformStream(
        store=store,
        parent=plan.parent,
        run=plan.run,
        transformation_uri=judged.uri,
        precision=judged.result.precision,
        use_side=plan.use_side,
        dimension=space.dimension,
        metric=space.metric,
        index_factory=settings.index,
        seed=settings.seed,
        batch_rows=settings.batch_rows,
        bad_rows=settings,
    )
    done: set[int] = set()
    for _ in range(FREE_ROUNDS):
        _, head = _head(plan)
        if head.version in done:
            break
        with run.log.stage("stream"):
            stream_transformed(stream, head, pool=settings.pool, size=size)
        done.add(head.version)
    with leases.publishing(store, plan.run):
        current, head = _head(plan)
        with run.log.stage("stream"):
            version, index, receipts = stream_transformed(stream, head, pool=settings.pool, size=size)
        num_bad = list_bad_rows(store, plan.run, receipts, settings.max_bad_rows)
        manifest = _manifest(plan, head, version, index, receipts, judged, transformation, space)
        with run.log.stage("verify") as meter:
            recall = verify_version(store, manifest, head, queries_QW, num_shards=settings.verify_shards, meter=meter)
        keep_model(store.models_uri(), judged.uri)
        run.publish(manifest, current)
    return UpgradeOutcome(
        plan=plan,
        published=manifest,
        stages=run.log.used(),
        judged=judged,
        recall=recall,
        peak_memory_bytes=max(receipt.peak_memory_bytes for receipt in receipts),
        num_bad_rows=num_bad,
    )


def _head(plan: UpgradePlan) -> tuple[Current, Manifest]:
    """What is published now: the version that was planned from, or what became of it by appending and deleting."""
    current, head = plan.store.pinned()
    check_catch_up(plan.parent, head, plan.run)
    return current, head


def _space(plan: UpgradePlan, judged: JudgedWays) -> TargetSpace:
    """The space of the new version's vectors: that of the new encoder, or one of joined blocks."""
    document = load_model(judged.uri).document
    if takes_new_alone(document):
        return plan.space
    return TargetSpace(dimension=document.dimension, metric=Metric.IP, normalized=True)


def _query_inputs(plan: UpgradePlan, head: Manifest, judged: JudgedWays) -> tuple[QueryInput, ...]:
    """Which embeddings make up a query of joined blocks, and by which models; none for a version of the new encoder."""
    queries = query_map_at(judged.uri)
    if takes_new_alone(load_model(judged.uri).document):
        return ()
    models = {QueryRole.OLD: head.encoder, QueryRole.NEW: plan.choice.ref}
    if head.side_info is not None:
        side = head.side_info
        models[QueryRole.SIDE] = EncoderRef(name=side.name, fingerprint=side.fingerprint)
    return tuple(
        QueryInput(role=QueryRole(role), encoder=models[QueryRole(role)], dimension=queries.dimensions[role])
        for role in queries.needs
    )


def _manifest(
    plan: UpgradePlan,
    head: Manifest,
    version: int,
    index: IndexRef,
    receipts: list[Receipt],
    judged: JudgedWays,
    transformation: LoadedModel,
    space: TargetSpace,
) -> Manifest:
    document = transformation.document
    queries = _query_inputs(plan, head, judged)
    needs_new = not queries or any(query.role is QueryRole.NEW for query in queries)
    return upgraded_manifest(
        head,
        version=version,
        created_at=now(),
        encoder=plan.choice.ref if needs_new else head.encoder,
        dimension=space.dimension,
        metric=space.metric,
        normalized=space.normalized,
        transformation=TransformationRef(
            name=document.name,
            fingerprint=document.fingerprint,
            from_encoder=head.encoder.fingerprint,
            to_encoder=document.to_encoder or plan.choice.ref.fingerprint,
            precision=judged.result.precision,
        ),
        index=index,
        receipts=receipts,
        gate=judged.result,
        run=plan.run,
        queries=queries,
    )


def keep_model(models_uri: str, uri: str) -> str:
    """Copy h, and its true vectors, from the run to where models stay when runs are collected; returns its new URI."""
    return save_model(models_uri, packed_model(uri))
