"""The gate's decision on an upgrade: by the evidence that there is, with what is told beside it.

Owns: falling back where embeddings are missing, the precision, what becomes of the other task, and what stands beside the
decision in reports. Measuring is `gate`, the decision itself plan/verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fct_ray.engine.actor_pool import gpus_per_actor
from fct_ray.engine.cluster import ClusterSize
from fct_ray.evaluation.compatibility import cosine_mean
from fct_ray.evaluation.queries import whole_gallery_k
from fct_ray.judgements import CompatibilityRow, GateCheck, GateResult, OtherTask
from fct_ray.kinds import Accept, EvidenceKind, QueryRole, Task
from fct_ray.models.transformation_runner import TransformRunner, fast_precision
from fct_ray.plan import verdict, verdict_texts
from fct_ray.plan.tasks import SHOWS
from fct_ray.plan.verdict import Judged
from fct_ray.values import Usage
from fct_ray.workflows.upgrade.candidates import Candidate
from fct_ray.workflows.upgrade.evidence import Evidence, FromQueries, NotJudgedError
from fct_ray.workflows.upgrade.evidence_by_task import EvidenceByTask, evidence_by_task
from fct_ray.workflows.upgrade.gate import (
    Metrics,
    Work,
    against_nothing,
    compared,
    in_precision,
    judge_by,
    keys_of,
)
from fct_ray.workflows.upgrade.kinds_of_evidence import (
    EvidenceSources,
    looked_for,
    new_against_old,
    share_without_pairs,
)
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.stored_sample import StoredRows

MOST_LOOKED_FOR = 200
"""Items that queries look for and that the new model embeds to be held against the old one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the gate decided, and what stands beside it in reports."""

    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    best: tuple[Candidate, ...]
    """The best variant of every method."""
    usage: Usage


def decide(
    plan: UpgradePlan, sources: EvidenceSources, gallery: StoredRows, candidates: Sequence[Candidate], size: ClusterSize
) -> Decision:
    """By the strongest evidence that there is; where it lacks embeddings, without what needs them."""
    work, metrics = Work(), Metrics(old=plan.parent.metric, new=plan.space.metric)
    by_task = evidence_by_task(sources, gallery)
    try:
        result = _judged_by(plan, by_task, sources, candidates, metrics, work)
    except NotJudgedError as missing:
        by_task = by_task.without_pool(sources)
        result = _judged_by(plan, by_task, sources, candidates, metrics, work)
        result = _asking_for(missing, result, plan, sources)
    if isinstance(by_task.deciding, FromQueries):
        result = _with_new_model(result, by_task.deciding, by_task, plan, sources, metrics)
    by_key = {candidate.key: candidate for candidate in candidates}
    best = tuple(by_key[key] for key in keys_of(result).values())
    chosen = next(candidate for candidate in best if candidate.method is result.chosen)
    fast = fast_precision(on_gpu=gpus_per_actor(plan.settings.pool, size) > 0)
    result = in_precision(
        result,
        chosen,
        by_task.deciding,
        metrics,
        asked=plan.settings.precision,
        fast=fast,
        batch_rows=plan.settings.batch_rows,
        work=work,
    )
    result = replace(
        result,
        cosine=_cosine(chosen, sources.held_out, plan.settings.batch_rows),
        other_task=_other_task(plan, by_task, result, chosen, metrics, work),
    )
    rows = sources.compatibility(best, metrics, work)
    return Decision(result=result, compatibility=rows, best=best, usage=work.usage)


def _asking_for(missing: NotJudgedError, result: GateResult, plan: UpgradePlan, sources: EvidenceSources) -> GateResult:
    """The result with what embeddings would show more, where it did not pass."""
    wanted_uri = sources.write_wanted(missing.wanted_ids)
    if result.passed:
        return result
    shows_it = plan.settings.task is Task.SIMILAR or result.evidence is EvidenceKind.PSEUDO
    task = "" if shows_it else " with --task similar, which is what that can show"
    more = (
        f"or embed the {len(missing.wanted_ids):,} items of {wanted_uri} with the new model, write (id, embedding) "
        f"to {sources.wanted_embeddings_uri}, and run the same command again{task}: it then judges by "
        "what every way returns from the whole gallery"
    )
    return replace(result, advice=f"{result.advice}; {more}" if result.advice else more)


def _judged_by(
    plan: UpgradePlan,
    by_task: EvidenceByTask,
    sources: EvidenceSources,
    candidates: Sequence[Candidate],
    metrics: Metrics,
    work: Work,
) -> GateResult:
    settings, evidence = plan.settings, by_task.deciding
    return judge_by(
        evidence,
        candidates,
        metrics,
        _judged(plan, by_task, sources),
        batch_rows=settings.batch_rows,
        seed=settings.seed,
        work=work,
        new_model=new_against_old(sources, evidence, metrics, seed=settings.seed),
        other=by_task.must_not_fall,
    )


def _judged(plan: UpgradePlan, by_task: EvidenceByTask, sources: EvidenceSources) -> Judged:
    settings, evidence = plan.settings, by_task.deciding
    return Judged(
        kind=evidence.kind,
        num_queries=_num_queries(evidence),
        k=settings.gate.k,
        gallery_rows=len(evidence.gallery.ids_G),
        gallery_total=plan.parent.num_rows,
        task=settings.task,
        accept_provisional=settings.accept is Accept.PROVISIONAL,
        tolerance=settings.gate.tolerance,
        whole_gallery_k=_whole_gallery_k(plan, evidence),
        uncovered_share=share_without_pairs(plan, sources.pairs),
        other=by_task.other,
    )


def _with_new_model(
    result: GateResult,
    evidence: FromQueries,
    by_task: EvidenceByTask,
    plan: UpgradePlan,
    sources: EvidenceSources,
    metrics: Metrics,
) -> GateResult:
    """Where no way passed: the result with the new model held against the old one, on what these queries look for.

    Its embeddings of some of that are made now, where there are raw items; else they are asked for. They tell whether
    embedding everything would help, which decides between keeping the old model and a full backfill.
    """
    if result.passed or result.new_model is not None or QueryRole.NEW not in evidence.queries:
        return result
    try:
        sources.new_of(looked_for(evidence, MOST_LOOKED_FOR))
    except NotJudgedError as missing:
        wanted_uri = sources.write_wanted(missing.wanted_ids)
        more = (
            f"to learn whether a full backfill would be better, embed the {len(missing.wanted_ids):,} items of {wanted_uri} "
            "(queries look for them) with the new model, write (id, embedding) to "
            f"{sources.wanted_embeddings_uri}, and run the same command again"
        )
        return replace(result, advice=f"{result.advice}; {more}" if result.advice else more)
    new_model = new_against_old(sources, evidence, metrics, seed=plan.settings.seed)
    again = verdict.judge(result.ways, _judged(plan, by_task, sources), new_model=new_model)
    return replace(
        result,
        passed=again.passed,
        verdict=again.verdict,
        reason=again.reason,
        advice=again.advice,
        new_model=new_model,
    )


def _other_task(
    plan: UpgradePlan,
    by_task: EvidenceByTask,
    result: GateResult,
    chosen: Candidate,
    metrics: Metrics,
    work: Work,
) -> OtherTask | None:
    """What the chosen way does to the other task; None where nothing shows it."""
    evidence = by_task.must_not_fall or by_task.told
    if evidence is None:
        return None
    checks = next(way.other_checks for way in result.ways if (way.method, way.variant) == chosen.key)
    if by_task.must_not_fall is None:
        checks = _told(plan, evidence, chosen, metrics, work)
    if not checks:
        return None
    other = OtherTask(
        task=Task.KNOWN_ITEM if Task.KNOWN_ITEM in SHOWS[evidence.kind] else Task.SIMILAR,
        evidence=evidence.kind,
        num_queries=_num_queries(evidence),
        checks=checks,
        must_not_fall=by_task.must_not_fall is not None,
    )
    return replace(other, sentence=verdict_texts.other_task_sentence(other))


def _told(
    plan: UpgradePlan, evidence: Evidence, chosen: Candidate, metrics: Metrics, work: Work
) -> tuple[GateCheck, ...]:
    """The chosen way's measures by evidence that decides nothing; none where embeddings are missing."""
    settings = plan.settings
    try:
        measured, bar = against_nothing(evidence, [chosen], metrics=metrics, batch_rows=settings.batch_rows, work=work)
    except NotJudgedError:
        return ()
    if chosen.key not in measured:
        return ()
    return verdict.told(compared(measured[chosen.key], bar, seed=settings.seed), settings.gate.tolerance)


def _num_queries(evidence: Evidence) -> int:
    return len(next(iter(evidence.queries.values())))


def _whole_gallery_k(plan: UpgradePlan, evidence: Evidence) -> float | None:
    """Which k of the whole gallery the gate's k stands for, where a sample of it is searched."""
    rows, total = len(evidence.gallery.ids_G), plan.parent.num_rows
    if evidence.kind is EvidenceKind.HELD_OUT or rows >= total:
        return None
    return whole_gallery_k(plan.settings.gate.k, rows / total)


def _cosine(chosen: Candidate, held_out: Pairs, batch_rows: int) -> float:
    """Mean cosine of the chosen way's outputs and the true new embeddings; 0 where it does not lead to their space."""
    if chosen.is_joined:
        return 0.0
    runner = TransformRunner(chosen.model, batch_rows=batch_rows)
    output_PW, _ = runner.run(held_out.old_PD, held_out.side_PS)
    return cosine_mean(output_PW, held_out.new_PW)
