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
from functools import partial

import numpy as np

from fct_ray.engine.actor_pool import gpus_per_actor
from fct_ray.engine.cluster import ClusterSize
from fct_ray.models.files import LoadedModel
from fct_ray.models.transformation_runner import fast_precision
from fct_ray.plan import checks
from fct_ray.plan.catch_up import check_catch_up
from fct_ray.plan.splits import gate_mask
from fct_ray.plan.versions import upgraded_manifest
from fct_ray.shards.model_directory import MODEL_JSON, WEIGHTS, check_model_uris, load_model
from fct_ray.storage import documents, leases, objects
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.leases import Lease
from fct_ray.values import (
    CompatibilityRow,
    Current,
    GateResult,
    IndexRef,
    Manifest,
    Receipt,
    RecoveredShare,
    TransformationRef,
    Usage,
)
from fct_ray.workflows.bad_rows import list_bad_rows
from fct_ray.workflows.fit.candidates import Direction, fit_candidates
from fct_ray.workflows.run_log import RunLog, now
from fct_ray.workflows.upgrade.gate import GateOutcome, run_gate, run_gate_in
from fct_ray.workflows.upgrade.pairs import Pairs, pairs_from_encoder, pairs_from_file
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.upgrade.stream import TransformStream, stream_transformed
from fct_ray.workflows.verify import verify_version

logger = logging.getLogger(__name__)
PAIRS_FILE, GATE_FILE = "pairs.parquet", "gate.json"
FREE_ROUNDS = 3  # of catching up with appended and deleted items before writers are made to wait for the last one
MAX_QUERIES = 256  # of the read-back: recall within 0.03 at 95 %, and brute force stays cheap


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedTransformation:
    """The transformation that passed the gate or did not; kept in `runs/<run id>/gate.json` for a resumed run."""

    uri: str
    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    recovered: dict[str, RecoveredShare]
    fitted: dict[str, str]
    """Every candidate's model directory, by method."""
    fit_reused: bool = False
    """Whether they were fitted by an earlier run: their busy time is counted, their wall time is not in this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradeOutcome:
    """What an upgrade did; `published` is None after a refusal."""

    plan: UpgradePlan
    published: Manifest | None
    stages: Mapping[str, Usage]
    judged: JudgedTransformation | None = None
    recall: float | None = None
    peak_memory_bytes: int = 0
    num_bad_rows: int = 0
    notes: tuple[str, ...] = ()


def run_upgrade(settings: UpgradeSettings, plan: UpgradePlan, size: ClusterSize) -> UpgradeOutcome:
    """Do what was planned; run again after a kill, it resumes.

    A refusal by the gate is an outcome (nothing is published), not an exception: its report is still to be written.

    Raises:
        FctRayError: a stage failed. CURRENT is unchanged and finished shards are kept.
    """
    if plan.finished is not None:
        log = RunLog(plan.store, plan.run)
        logger.info("run %s has published version %d already", plan.run, plan.finished.version)
        judged = _read_judged(settings, plan)
        return UpgradeOutcome(plan=plan, published=plan.finished, stages=log.used(), judged=judged)
    with leases.take(plan.store, plan.run, plan.run, versions=(plan.parent.version,)) as lease:
        judged, queries_QW, log = fit_and_judge(settings, plan, size)
        if not judged.result.passed:
            return UpgradeOutcome(plan=plan, published=None, stages=log.used(), judged=judged)
        return _stream_and_publish(settings, plan, judged, queries_QW, log, size, lease)


def fit_and_judge(
    settings: UpgradeSettings, plan: UpgradePlan, size: ClusterSize
) -> tuple[JudgedTransformation, np.ndarray, RunLog]:
    """The stages pairs, fit and gate; returns the verdict, some of the new model's held-out vectors, and the run's log."""
    log = RunLog(plan.store, plan.run)
    pairs = _pairs(settings, plan, log, size)
    held_out_P = gate_mask(pairs.ids_P, settings.gate.share, settings.seed)
    checks.check_pair_counts(num_fit=int((~held_out_P).sum()), num_gate=int(held_out_P.sum()))
    judged = _read_judged(settings, plan) or _fit_and_judge(settings, plan, pairs, held_out_P, log, size)
    return judged, pairs.new_PW[held_out_P][:MAX_QUERIES], log


def _pairs(settings: UpgradeSettings, plan: UpgradePlan, log: RunLog, size: ClusterSize) -> Pairs:
    uri = plan.store.run_uri(plan.run, PAIRS_FILE)
    if objects.exists(uri):
        return Pairs.from_table(pair_files.read_table(uri))
    with log.stage("pairs") as meter:
        if settings.pairs is not None:
            pairs = pairs_from_file(plan.store, plan.parent, settings.pairs, use_side=plan.use_side, meter=meter)
        else:
            assert settings.source is not None  # noqa: S101 (planning refused anything else)
            assert plan.choice.uri is not None  # noqa: S101
            pairs = pairs_from_encoder(
                plan.store,
                plan.parent,
                source_spec=settings.source,
                encoder_uri=plan.choice.uri,
                num_pairs=plan.num_pairs,
                seed=settings.seed,
                use_side=plan.use_side,
                pool=settings.pool,
                size=size,
                meter=meter,
            )
    # Written after the stage's record: work that a kill loses is done and counted again.
    pair_files.write_table(uri, pairs.to_table())
    return pairs


def _fit_and_judge(
    settings: UpgradeSettings,
    plan: UpgradePlan,
    pairs: Pairs,
    held_out_P: np.ndarray,
    log: RunLog,
    size: ClusterSize,
) -> JudgedTransformation:
    fitted, models, reused = {}, {}, False
    if plan.given is not None:
        assert settings.transformation is not None  # noqa: S101 (planning loaded it from there)
        method = "fct_side" if plan.given.transformation().architecture.side_dimension else "fct_noside"
        fitted, models = {method: settings.transformation}, {method: plan.given}
    else:
        with log.stage("fit"):
            fitted, models, reused = _fit(settings, plan, pairs.rows(~held_out_P), log, size)
    with log.stage("gate") as meter:
        gate = partial(
            run_gate,
            pairs.rows(held_out_P),
            models,
            old_metric=plan.parent.metric,
            new_metric=plan.space.metric,
            settings=settings.gate,
            batch_rows=settings.batch_rows,
            uncovered_share=_uncovered_share(plan.parent, pairs),
        )
        fast = fast_precision(on_gpu=gpus_per_actor(settings.pool, size) > 0)
        outcome = run_gate_in(gate, asked=settings.precision, fast=fast)
        meter.add(outcome.usage)
    # Written after the stage's record: work that a kill loses is done and counted again.
    return _write_judged(plan, outcome, fitted, reused)


def _fit(
    settings: UpgradeSettings, plan: UpgradePlan, pairs: Pairs, log: RunLog, size: ClusterSize
) -> tuple[dict[str, str], dict[str, LoadedModel], bool]:
    side = plan.parent.side_info
    candidates = fit_candidates(
        pairs,
        Direction(
            old=plan.parent.encoder,
            new=plan.choice.ref,
            side_fingerprint=side.fingerprint if side is not None and plan.use_side else None,
            normalized=plan.space.normalized,
        ),
        fit=settings.fit,
        train=settings.train,
        seed=settings.seed,
        controls=settings.controls,
        storage_uri=settings.fit_dir or plan.store.run_uri(plan.run, "fit"),
        size=size,
        start_from=settings.start_from,
    )
    log.record_part("fit", "candidates", sum((candidate.usage for candidate in candidates), Usage()))
    uris = {candidate.method: candidate.uri for candidate in candidates}
    models = {candidate.method: candidate.model for candidate in candidates}
    return uris, models, all(candidate.reused for candidate in candidates)


def _write_judged(
    plan: UpgradePlan, outcome: GateOutcome, fitted: dict[str, str], reused: bool
) -> JudgedTransformation:
    judged = JudgedTransformation(
        uri=fitted[outcome.result.chosen],
        result=outcome.result,
        compatibility=outcome.compatibility,
        recovered=dict(outcome.recovered),
        fitted=fitted,
        fit_reused=reused,
    )
    objects.write_bytes(plan.store.run_uri(plan.run, GATE_FILE), documents.dump(judged))
    return judged


def _read_judged(settings: UpgradeSettings, plan: UpgradePlan) -> JudgedTransformation | None:
    uri = plan.store.run_uri(plan.run, GATE_FILE)
    if not objects.exists(uri):
        return None
    judged = documents.load(JudgedTransformation, objects.read_bytes(uri), uri)
    places = (plan.store.uri, settings.fit_dir, settings.transformation)
    check_model_uris((judged.uri, *judged.fitted.values()), places, uri)
    return judged


def _uncovered_share(parent: Manifest, pairs: Pairs) -> float:
    covered = [int(((pairs.ids_P >= record.id_min) & (pairs.ids_P <= record.id_max)).sum()) for record in parent.shards]
    return checks.uncovered_share(covered, [record.rows for record in parent.shards])


def _stream_and_publish(
    settings: UpgradeSettings,
    plan: UpgradePlan,
    judged: JudgedTransformation,
    queries_QW: np.ndarray,
    log: RunLog,
    size: ClusterSize,
    lease: Lease,
) -> UpgradeOutcome:
    store, transformation = plan.store, load_model(judged.uri)
    stream = TransformStream(
        store=store,
        parent=plan.parent,
        run=plan.run,
        transformation_uri=judged.uri,
        precision=judged.result.precision,
        use_side=plan.use_side,
        dimension=plan.space.dimension,
        metric=plan.space.metric,
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
        with log.stage("stream"):
            stream_transformed(stream, head, pool=settings.pool, size=size)
        done.add(head.version)
    with leases.publishing(store, plan.run):
        current, head = _head(plan)
        with log.stage("stream"):
            version, index, receipts = stream_transformed(stream, head, pool=settings.pool, size=size)
        num_bad = list_bad_rows(store, plan.run, receipts, settings.max_bad_rows)
        manifest = _manifest(plan, head, version, index, receipts, judged, transformation)
        with log.stage("verify") as meter:
            recall = verify_version(store, manifest, head, queries_QW, num_shards=settings.verify_shards, meter=meter)
        with log.stage("publish"):
            keep_model(store.models_uri(), transformation, judged.uri)
            lease.check()
            store.publish(manifest, expected=current)
    return UpgradeOutcome(
        plan=plan,
        published=manifest,
        stages=log.used(),
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


def _manifest(
    plan: UpgradePlan,
    head: Manifest,
    version: int,
    index: IndexRef,
    receipts: list[Receipt],
    judged: JudgedTransformation,
    transformation: LoadedModel,
) -> Manifest:
    document = transformation.document
    return upgraded_manifest(
        head,
        version=version,
        created_at=now(),
        encoder=plan.choice.ref,
        dimension=plan.space.dimension,
        metric=plan.space.metric,
        normalized=plan.space.normalized,
        transformation=TransformationRef(
            name=document.name,
            fingerprint=document.fingerprint,
            from_encoder=head.encoder.fingerprint,
            to_encoder=plan.choice.ref.fingerprint,
            precision=judged.result.precision,
        ),
        index=index,
        receipts=receipts,
        gate=judged.result,
        run=plan.run,
    )


def keep_model(models_uri: str, transformation: LoadedModel, uri: str) -> str:
    """Copy h from the run to where models stay when runs are collected; returns its new URI."""
    name = f"{transformation.document.name}-{transformation.document.fingerprint[:12]}"
    target = objects.join(models_uri, name)
    for file in (WEIGHTS, MODEL_JSON):
        objects.write_bytes(objects.join(target, file), objects.read_bytes(objects.join(uri, file)))
    return target
