"""The first half of an upgrade: pairs, fitted candidates for h, and the gate's judgement of them.

    pairs (cached) --> fit (checkpointed) --> gate --> gate.json

Owns: what a killed run finds again of these three. Nothing here writes a version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fct_ray.engine.actor_pool import gpus_per_actor
from fct_ray.engine.cluster import ClusterSize
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.transformation_runner import fast_precision
from fct_ray.plan import checks
from fct_ray.plan.splits import gate_mask
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import check_model_uris
from fct_ray.storage import documents, objects
from fct_ray.storage import pairs as pair_files
from fct_ray.values import (
    CompatibilityRow,
    GateResult,
    Manifest,
    Method,
    RecoveredShare,
    Usage,
    method_of_transformation,
)
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.upgrade.candidates import Direction, fit_candidates
from fct_ray.workflows.upgrade.gate import GateOutcome, run_gate, run_gate_in
from fct_ray.workflows.upgrade.pair_origin import PairsFromFile
from fct_ray.workflows.upgrade.pairs import Pairs, pairs_from_encoder, pairs_from_file
from fct_ray.workflows.upgrade.plan import UpgradePlan

PAIRS_FILE, GATE_FILE = "pairs.parquet", "gate.json"
MAX_QUERIES = 256  # of the read-back: recall within 0.03 at 95 %, and brute force stays cheap


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedTransformation:
    """The transformation that passed the gate or did not; kept in `runs/<run id>/gate.json` for a resumed run."""

    uri: str
    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    recovered: dict[Method, RecoveredShare]
    fitted: dict[Method, str]
    """Every candidate's model directory, by method."""
    fit_reused: bool = False
    """Whether they were fitted by an earlier run: their busy time is counted, their wall time is not in this one."""


def fit_and_judge(plan: UpgradePlan, log: RunUsage, size: ClusterSize) -> tuple[JudgedTransformation, np.ndarray]:
    """The stages pairs, fit and gate; returns the judgement, and held-out vectors of the new model [Q, W] to search with.

    Raises:
        FctRayError: a stage failed; what earlier stages made is found again by the next attempt.
    """
    pairs = _pairs(plan, log, size)
    held_out_P = gate_mask(pairs.ids_P, plan.settings.gate.share, plan.settings.seed)
    checks.check_pair_counts(num_fit=int((~held_out_P).sum()), num_gate=int(held_out_P.sum()))
    judged = read_judged(plan)
    if judged is None or judged.uri not in judged.fitted.values():
        judged = _fit_and_judge(plan, pairs, held_out_P, log, size)
    return judged, pairs.new_PW[held_out_P][:MAX_QUERIES]


def _pairs(plan: UpgradePlan, log: RunUsage, size: ClusterSize) -> Pairs:
    uri = plan.store.run_uri(plan.run, PAIRS_FILE)
    if objects.exists(uri):
        return Pairs.from_table(pair_files.read_table(uri))
    with log.stage("pairs") as meter:
        if isinstance(plan.pairs, PairsFromFile):
            pairs = pairs_from_file(plan.store, plan.parent, plan.pairs, use_side=plan.use_side, meter=meter)
        else:
            pairs = pairs_from_encoder(
                plan.store,
                plan.parent,
                source_spec=plan.pairs.source,
                encoder_uri=plan.pairs.encoder,
                num_pairs=plan.num_pairs,
                seed=plan.settings.seed,
                use_side=plan.use_side,
                pool=plan.settings.pool,
                size=size,
                meter=meter,
            )
    # Written after the stage's record: work that a kill loses is done and counted again.
    pair_files.write_table(uri, pairs.to_table())
    return pairs


def _fit_and_judge(
    plan: UpgradePlan,
    pairs: Pairs,
    held_out_P: np.ndarray,
    log: RunUsage,
    size: ClusterSize,
) -> JudgedTransformation:
    fitted, models, reused = {}, {}, False
    if plan.given is not None:
        assert plan.settings.transformation is not None  # noqa: S101 (planning loaded it from there)
        architecture = plan.given.transformation().architecture
        method = method_of_transformation(architecture.kind, reads_side=architecture.side_dimension > 0)
        fitted, models = {method: plan.settings.transformation}, {method: plan.given}
    else:
        with log.stage("fit"):
            fitted, models, reused = _fit(plan, pairs.rows(~held_out_P), log, size)
    with log.stage("gate") as meter:
        gate = partial(
            run_gate,
            pairs.rows(held_out_P),
            models,
            old_metric=plan.parent.metric,
            new_metric=plan.space.metric,
            settings=plan.settings.gate,
            batch_rows=plan.settings.batch_rows,
            uncovered_share=_uncovered_share(plan.parent, pairs),
        )
        fast = fast_precision(on_gpu=gpus_per_actor(plan.settings.pool, size) > 0)
        outcome = run_gate_in(gate, asked=plan.settings.precision, fast=fast)
        meter.add(outcome.usage)
    # Written after the stage's record: work that a kill loses is done and counted again.
    return _write_judged(plan, outcome, fitted, reused)


def _fit(
    plan: UpgradePlan, pairs: Pairs, log: RunUsage, size: ClusterSize
) -> tuple[dict[Method, str], dict[Method, LoadedModel], bool]:
    side = plan.parent.side_info
    candidates = fit_candidates(
        pairs,
        Direction(
            old=plan.parent.encoder,
            new=plan.choice.ref,
            side_fingerprint=side.fingerprint if side is not None and plan.use_side else None,
            normalized=plan.space.normalized,
        ),
        fit=plan.settings.fit,
        train=plan.settings.train,
        seed=plan.settings.seed,
        controls=plan.settings.controls,
        storage_uri=plan.settings.fit_dir or plan.store.run_uri(plan.run, "fit"),
        size=size,
        start_from=plan.settings.start_from,
    )
    log.record_part("fit", "candidates", sum((candidate.usage for candidate in candidates), Usage()))
    uris = {candidate.method: candidate.uri for candidate in candidates}
    models = {candidate.method: candidate.model for candidate in candidates}
    return uris, models, all(candidate.reused for candidate in candidates)


def _write_judged(
    plan: UpgradePlan, outcome: GateOutcome, fitted: dict[Method, str], reused: bool
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


def read_judged(plan: UpgradePlan) -> JudgedTransformation | None:
    """What an earlier attempt of this run judged, or None.

    `fitted` has only the candidates that are still there: a garbage collection leaves the judgement, which is a figure for
    the record, and deletes the candidates but the one that was published. A run that needs the one it chose fits again.
    """
    uri = plan.store.run_uri(plan.run, GATE_FILE)
    if not objects.exists(uri):
        return None
    judged = documents.load(JudgedTransformation, objects.read_bytes(uri), uri)
    places = (plan.store.uri, plan.settings.fit_dir, plan.settings.transformation)
    check_model_uris((judged.uri, *judged.fitted.values()), places, uri)
    fitted = {method: _still_at(plan, model) for method, model in judged.fitted.items()}
    return replace(
        judged,
        uri=_still_at(plan, judged.uri) or judged.uri,
        fitted={method: model for method, model in fitted.items() if model is not None},
    )


def _still_at(plan: UpgradePlan, uri: str) -> str | None:
    """Where a fitted model is: where it was fitted, or among the store's models, once published; None if it is gone."""
    kept = objects.join(plan.store.models_uri(), uri.rstrip("/").rpartition("/")[2])
    return next((place for place in (uri, kept) if is_model_uri(place)), None)


def _uncovered_share(parent: Manifest, pairs: Pairs) -> float:
    covered = [int(((pairs.ids_P >= record.id_min) & (pairs.ids_P <= record.id_max)).sum()) for record in parent.shards]
    return checks.uncovered_share(covered, [record.rows for record in parent.shards])
