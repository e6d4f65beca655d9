"""The first half of an upgrade: pairs, candidates, and the gate's judgement of them.

    pairs (cached) --> fit (checkpointed) --> ways --> gate --> gate.json

Owns: what a killed run finds again of these. Nothing here writes a version.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fct_ray.engine.cluster import ClusterSize
from fct_ray.evaluation.compatibility import recovered_shares
from fct_ray.judgements import CompatibilityRow, GateResult, RecoveredShare
from fct_ray.kinds import EvidenceKind, Method, WayChoice, method_of_transformation
from fct_ray.plan import checks
from fct_ray.plan.splits import gate_mask
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import check_model_uris
from fct_ray.shards.true_rows import were_purged
from fct_ray.storage import documents, objects
from fct_ray.storage import pairs as pair_files
from fct_ray.values import Usage
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.upgrade.candidates import Candidate, FitJob, direction_of, fit_candidates, load_candidate
from fct_ray.workflows.upgrade.decision import Decision, decide
from fct_ray.workflows.upgrade.kept_vectors import vectors_to_keep
from fct_ray.workflows.upgrade.kinds_of_evidence import EvidenceSources, wanted_embeddings
from fct_ray.workflows.upgrade.pair_origin import PairsFromFile
from fct_ray.workflows.upgrade.pairs import Pairs, pairs_from_encoder, pairs_from_file
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.query_origin import looked_up
from fct_ray.workflows.upgrade.refine import refined_pairs
from fct_ray.workflows.upgrade.ways import every_candidate

logger = logging.getLogger(__name__)
PAIRS_FILE, GATE_FILE = "pairs.parquet", "gate.json"
MOST_HELD_OUT = 0.5  # share of the pairs that real queries may keep from being fitted on
MAX_QUERIES = 256  # of the read-back: recall within 0.03 at 95 %, and brute force stays cheap


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedWays:
    """What the gate saw and decided; kept in `runs/<run id>/gate.json` for a resumed run."""

    uri: str
    """The model directory of the chosen way."""
    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    recovered: dict[Method, RecoveredShare]
    fitted: dict[Method, str]
    """The model directory of every way that was compared, by method; true vectors are with the chosen one alone."""
    num_refined: int = 0
    """How many items were embedded with the new model beside the pairs."""
    fit_reused: bool = False
    """Whether they were fitted by an earlier run: their busy time is counted, their wall time is not in this one."""


def fit_and_judge(plan: UpgradePlan, log: RunUsage, size: ClusterSize) -> tuple[JudgedWays, Pairs]:
    """The stages pairs, fit and gate; returns the judgement, and some held-out pairs to read the index back with.

    Raises:
        FctRayError: a stage failed; what earlier stages made is found again by the next attempt.
    """
    plan = replace(plan, queries=looked_up(plan.queries, plan.store, plan.parent))
    pairs = _pairs(plan, log, size)
    held_out_P = held_out_of(plan, pairs.ids_P)
    checks.check_pair_counts(num_fit=int((~held_out_P).sum()), num_gate=int(held_out_P.sum()))
    judged = read_judged(plan)
    if judged is None or judged.uri not in judged.fitted.values() or _may_know_more(plan, judged.result):
        judged = _fit_and_judge(plan, pairs, held_out_P, log, size)
    few = np.flatnonzero(held_out_P)[:MAX_QUERIES]
    return judged, pairs.rows(np.isin(np.arange(len(pairs.ids_P)), few))


def held_out_of(plan: UpgradePlan, ids_P: np.ndarray) -> np.ndarray:
    """Which pairs are held out from every fit: a share by hash, and those that a real query looks for.

    A map that was fitted on an item finds this item better than others, a correction by near pairs even exactly. Where
    queries look for most of the pairs, half of these are fitted on, and queries that look for them do not judge.
    """
    held_out_P = gate_mask(ids_P, plan.settings.gate.share, plan.settings.seed)
    if plan.queries is not None:
        wanted_P = np.isin(ids_P, plan.queries.judged.relevant_ids_R)
        if wanted_P.mean() > MOST_HELD_OUT:
            wanted_P &= gate_mask(ids_P, MOST_HELD_OUT, plan.settings.seed + 1)
        held_out_P |= wanted_P
    return held_out_P


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
    plan: UpgradePlan, pairs: Pairs, held_out_P: np.ndarray, log: RunUsage, size: ClusterSize
) -> JudgedWays:
    refined = refined_pairs(plan, pairs, log, size)
    looked_for = np.empty(0, np.int64) if plan.queries is None else plan.queries.judged.relevant_ids_R
    fit_on = pairs.rows(~held_out_P)
    if refined is not None:
        fit_on = fit_on.with_more(refined.rows(~np.isin(refined.ids_P, looked_for)))
    if plan.given is not None:
        assert plan.settings.transformation is not None  # noqa: S101 (planning loaded it from there)
        architecture = plan.given.transformation().architecture
        method = method_of_transformation(architecture.kind, reads_side=architecture.side_dimension > 0)
        fitted: Sequence[Candidate] = [load_candidate(method, plan.settings.transformation)]
    elif plan.settings.way is WayChoice.NOTHING_FITTED:
        fitted = ()
    else:
        with log.stage("fit"):
            fitted = _fit(plan, fit_on, pairs.rows(held_out_P), log, size)
    with log.stage("gate") as meter:
        sources = EvidenceSources(
            plan=plan, pairs=pairs, held_out=pairs.rows(held_out_P), refined=refined, size=size, meter=meter
        )
        gallery = sources.gallery()
        candidates = fitted if plan.given is not None else every_candidate(plan, fit_on, fitted, gallery)
        if refined is not None:
            true = vectors_to_keep(pairs, refined, held_out_P=held_out_P, looked_for=looked_for)
            keeping = (candidate.with_true_vectors(true) for candidate in candidates)
            candidates = [*candidates, *(candidate for candidate in keeping if candidate is not None)]
        judged = decide(plan, sources, gallery, candidates, size)
        meter.add(judged.usage)
    # Written after the stage's record: work that a kill loses is done and counted again.
    num_refined = 0 if refined is None else len(refined.ids_P)
    reused = bool(fitted) and all(candidate.reused for candidate in fitted)
    return _write_judged(plan, judged, num_refined=num_refined, reused=reused)


def _fit(plan: UpgradePlan, fit_on: Pairs, held_out: Pairs, log: RunUsage, size: ClusterSize) -> tuple[Candidate, ...]:
    settings = plan.settings
    job = FitJob(
        fit=settings.fit,
        train=settings.train,
        seed=settings.seed,
        controls=settings.controls,
        storage_uri=settings.fit_dir or plan.store.run_uri(plan.run, "fit"),
        start_from=settings.start_from,
        pilot=settings.asks_pilot,
    )
    candidates = fit_candidates(fit_on, held_out, direction_of(plan), job, size)
    log.record_part("fit", "candidates", sum((candidate.usage for candidate in candidates), Usage()))
    return candidates


def _write_judged(plan: UpgradePlan, decision: Decision, *, num_refined: int, reused: bool) -> JudgedWays:
    storage_uri, chosen = plan.store.run_uri(plan.run, "ways"), decision.result.chosen
    fitted = {
        candidate.method: (candidate if candidate.method is chosen else replace(candidate, true=None))
        .saved(storage_uri)
        .uri
        for candidate in decision.best
    }
    judged = JudgedWays(
        uri=fitted[chosen],
        result=decision.result,
        compatibility=decision.compatibility,
        recovered=recovered_shares(decision.compatibility) if decision.compatibility else {},
        fitted=fitted,
        num_refined=num_refined,
        fit_reused=reused,
    )
    objects.write_bytes(plan.store.run_uri(plan.run, GATE_FILE), documents.dump(judged))
    return judged


def read_judged(plan: UpgradePlan) -> JudgedWays | None:
    """What an earlier attempt of this run judged, or None.

    `fitted` has only the candidates that are still there: a garbage collection leaves the judgement, which is a figure for
    the record, and deletes the candidates but the one that was published. A run that needs the one it chose fits again.
    """
    uri = plan.store.run_uri(plan.run, GATE_FILE)
    if not objects.exists(uri):
        return None
    judged = documents.load(JudgedWays, objects.read_bytes(uri), uri)
    places = (plan.store.uri, plan.settings.fit_dir, plan.settings.transformation)
    check_model_uris((judged.uri, *judged.fitted.values()), places, uri)
    fitted = {method: _still_at(plan, model) for method, model in judged.fitted.items()}
    return replace(
        judged,
        uri=_still_at(plan, judged.uri) or judged.uri,
        fitted={method: model for method, model in fitted.items() if model is not None},
    )


def _may_know_more(plan: UpgradePlan, result: GateResult) -> bool:
    """Whether embeddings that an undecided attempt asked for have been brought since."""
    half = result.evidence is EvidenceKind.PSEUDO and result.task is None and result.other_task is None
    by_queries = result.evidence in (EvidenceKind.QUERIES, EvidenceKind.PSEUDO) and result.new_model is None
    undecided = not result.passed and (half or by_queries or result.evidence is EvidenceKind.HELD_OUT)
    return undecided and bool(wanted_embeddings(plan))


def _still_at(plan: UpgradePlan, uri: str) -> str | None:
    """Where a fitted model is: where it was fitted, or among the store's models, once published; None if it is gone."""
    kept = objects.join(plan.store.models_uri(), uri.rstrip("/").rpartition("/")[2])
    return next((place for place in (uri, kept) if is_model_uri(place) and not were_purged(place)), None)
