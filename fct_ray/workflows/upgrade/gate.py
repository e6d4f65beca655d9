"""The gate of an upgrade: every way to search, measured by the best evidence there is, and judged.

Owns: running the ways over the gallery that judges them, the bounds of their differences to doing nothing, and the
precision. What is measured of a way is in evaluation/, which kinds of evidence there are in `evidence`, the decision in
plan/verdict.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from fct_ray.evaluation import ways
from fct_ray.evaluation.intervals import paired_interval
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.judgements import GateCheck, GateResult, WayJudged
from fct_ray.kinds import Method, Metric, Precision, QueryRole
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.models.true_vectors import put_in
from fct_ray.plan import verdict
from fct_ray.plan.groups import negative_flips, worst_group
from fct_ray.plan.verdict import Judged
from fct_ray.values import Usage
from fct_ray.workflows.upgrade.candidates import Candidate
from fct_ray.workflows.upgrade.evidence import Evidence, FloatArray, Key, Measures
from fct_ray.workflows.upgrade.stored_sample import StoredRows

logger = logging.getLogger(__name__)
FIRST_IS_RIGHT = ("recall@1", "top1")
DECIDING = ("mrr", "map")
"""The measures that weights are chosen by, where the evidence has them; else by its first."""
MAX_TO_CHOOSE_BY = 200
"""Queries that weights are chosen by: every variant searches the gallery."""


@dataclass(kw_only=True, slots=True)
class Work:
    """What running the ways took."""

    usage: Usage = field(default_factory=Usage)


Measuring = Callable[[Sequence[Candidate]], tuple[Mapping[Key, Measures], Measures]]
"""Candidates to every measure of theirs, and those of doing nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """How old and new embeddings are compared."""

    old: Metric
    new: Metric


def searches(
    candidates: Iterable[Candidate],
    evidence: Evidence,
    metrics: Metrics,
    *,
    batch_rows: int,
    precision: Precision,
    work: Work,
) -> Iterator[WayToSearch]:
    """Every candidate over the gallery of the evidence, one at a time; those whose queries are not known are left out."""
    made: tuple[LoadedModel, TransformRunner, FloatArray] | None = None
    for candidate in candidates:
        if not set(candidate.queries.needs) <= evidence.queries.keys():
            continue
        if made is None or made[0] is not candidate.model:  # with and without true vectors is one model
            runner = TransformRunner(candidate.model, batch_rows=batch_rows, precision=precision)
            output_GW, used = runner.run(evidence.gallery.old_GD, evidence.gallery.side_GS)
            work.usage += used
            made = candidate.model, runner, output_GW
        _, runner, output_GW = made
        yield ways.mapped(
            candidate.method,
            candidate.text,
            candidate.queries({role: evidence.queries[QueryRole(role)] for role in candidate.queries.needs}),
            _with_true_vectors(candidate, evidence.gallery, output_GW),
            Metric.IP if candidate.is_joined else metrics.new,
            query=" + ".join(candidate.queries.needs),
            gallery=candidate.gallery_text,
            uses_side=QueryRole.SIDE in candidate.queries.needs or runner.uses_side,
        )


def _with_true_vectors(candidate: Candidate, gallery: StoredRows, output_GW: FloatArray) -> FloatArray:
    """What the candidate's version would hold of this gallery, as far as it may be known while judging."""
    if candidate.true is None:
        return output_GW
    output_GW = output_GW.copy()
    known = candidate.true.judging.of_rows(gallery.ids_G, gallery.old_GD)
    put_in(output_GW, known, candidate.queries, normalized=candidate.model.document.normalized)
    return output_GW


def judge_by(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    metrics: Metrics,
    judged: Judged,
    *,
    batch_rows: int,
    seed: int,
    work: Work,
    new_model: GateCheck | None = None,
    other: Evidence | None = None,
) -> GateResult:
    """Measure every candidate in float32, hold it against doing nothing, and decide.

    `other` is evidence of the other task, of which no measure may fall.

    Raises:
        NotJudgedError: the evidence needs embeddings that are not here.
    """
    first = verdict.measures_that_must_be_proven(judged.kind, judged.k)
    measure = partial(against_nothing, metrics=metrics, batch_rows=batch_rows, work=work)
    few = [each.few(MAX_TO_CHOOSE_BY) for each in (evidence, other) if each is not None]
    plain = [candidate for candidate in candidates if candidate.true is None]
    best = best_variants(plain, [partial(measure, each) for each in few], judged.tolerance)
    candidates = _with_and_without_true_vectors(best, candidates)
    num_compared = len(plain) + len(candidates) - len(best)
    known = [candidate for candidate in candidates if set(candidate.queries.needs) <= evidence.queries.keys()]
    others, other_bar = ({}, {}) if other is None else measure(other, known)  # first: it may lack embeddings
    measured, bar = measure(evidence, known)
    lines = [
        WayJudged(
            method=candidate.method,
            variant=candidate.text,
            checks=compared(measured[candidate.key], bar, first=first, num_compared=num_compared, seed=seed),
            query_roles=tuple(QueryRole(role) for role in candidate.queries.needs),
            bytes_per_item=4 * candidate.model.document.dimension,
            other_checks=() if other is None else compared(others[candidate.key], other_bar, seed=seed),
        )
        for candidate in known
    ]
    result = verdict.judge(lines, judged, new_model=new_model)
    chosen = next(line for line in result.ways if line.method is result.chosen)
    return replace(
        result,
        worst_group=_worst_group(evidence, measured[chosen.method, chosen.variant], bar, chosen),
        negative_flips=_flips(bar, measured[chosen.method, chosen.variant]),
    )


def against_nothing(
    evidence: Evidence, candidates: Sequence[Candidate], *, metrics: Metrics, batch_rows: int, work: Work
) -> tuple[Mapping[Key, Measures], Measures]:
    """Every measure of the candidates in float32, and those of doing nothing.

    Raises:
        NotJudgedError: the evidence needs embeddings that are not here.
    """
    bar = ways.doing_nothing(evidence.queries[QueryRole.OLD], evidence.gallery.old_GD, metrics.old)
    every = searches(candidates, evidence, metrics, batch_rows=batch_rows, precision=Precision.FLOAT32, work=work)
    measured = dict(evidence.measures(_with(bar, every)))
    return measured, measured.pop(bar.key)


def best_variants(candidates: Sequence[Candidate], measures: Sequence[Measuring], tolerance: float) -> list[Candidate]:
    """The candidate of each method that does best on a few queries; those that are alone are not measured for it.

    A variant of which no measure falls goes before one that finds more by the first evidence's deciding measure and loses
    elsewhere: the gate would refuse that one.
    """
    count = Counter(candidate.method for candidate in candidates)
    several = [candidate for candidate in candidates if count[candidate.method] > 1]
    if not several:
        return list(candidates)
    every = [measure(several) for measure in measures]
    best: dict[Method, tuple[tuple[bool, float], Candidate]] = {}
    for candidate in several:
        if candidate.key not in every[0][0]:
            continue
        does_no_harm = all(_does_no_harm(measured[candidate.key], bar, tolerance) for measured, bar in every)
        level = does_no_harm, _deciding_level(every[0][0][candidate.key])
        if candidate.method not in best or level > best[candidate.method][0]:
            best[candidate.method] = level, candidate
    chosen = {candidate.key for _, candidate in best.values()}
    return [candidate for candidate in candidates if count[candidate.method] == 1 or candidate.key in chosen]


def in_precision(
    result: GateResult,
    chosen: Candidate,
    evidence: Evidence,
    metrics: Metrics,
    *,
    asked: Precision | None,
    fast: Precision,
    batch_rows: int,
    work: Work,
) -> GateResult:
    """The result in the precision that is asked for; where none is, in the fast one unless that loses too much."""
    precision = asked or fast
    if precision is Precision.FLOAT32:
        return result
    measure = result.checks[0].measure
    (values,) = evidence.measures(
        searches([chosen], evidence, metrics, batch_rows=batch_rows, precision=precision, work=work)
    ).values()
    loss = result.checks[0].candidate - float(np.nanmean(values[measure]))
    if asked is None and verdict.loses_too_much(loss):
        logger.info("vectors are computed in float32: in %s it would lose %.4f of %s", fast, loss, measure)
        return result
    return replace(result, precision=precision, precision_loss=loss)


def compared(
    way: Measures, bar: Measures, *, first: Sequence[str] = (), num_compared: int = 1, seed: int
) -> tuple[GateCheck, ...]:
    """Every measure of a way against doing nothing; those in `first` come first."""
    checks = []
    for name in sorted(way, key=lambda name: (name not in first, list(way).index(name))):
        values_Q = way[name]
        known_Q = ~(np.isnan(values_Q) | np.isnan(bar[name]))
        interval = paired_interval(values_Q, bar[name], num_compared=max(1, num_compared), seed=seed)
        checks.append(
            GateCheck(
                measure=name,
                candidate=_mean(values_Q[known_Q]),
                bar=_mean(bar[name][known_Q]),
                margin=interval.mean,
                margin_low=interval.low,
                margin_high=interval.high,
                passed=False,
            )
        )
    return tuple(checks)


def _with(bar: WayToSearch, every: Iterable[WayToSearch]) -> Iterator[WayToSearch]:
    yield bar
    yield from every


def _does_no_harm(way: Measures, bar: Measures, tolerance: float) -> bool:
    """Whether no measure is worse than doing nothing on average."""
    differences = [way[name] - bar[name] for name in way]
    return all(_mean(values_Q[~np.isnan(values_Q)]) >= -tolerance for values_Q in differences)


def _deciding_level(way: Measures) -> float:
    name = next((name for name in DECIDING if name in way), next(iter(way)))
    return _mean(way[name][~np.isnan(way[name])])


def _with_and_without_true_vectors(best: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[Candidate]:
    """These candidates, each followed by the one that is the same but for true vectors that its version keeps."""
    keeping = {(one.method, one.variant): one for one in candidates if one.true is not None}
    pairs = ((plain, keeping.get((plain.method, plain.variant))) for plain in best)
    return [candidate for pair in pairs for candidate in pair if candidate is not None]


def _worst_group(evidence: Evidence, way: Measures, bar: Measures, line: WayJudged) -> dict[str, float] | None:
    if evidence.groups_Q is None:
        return None
    name = line.checks[0].measure
    known_Q = ~(np.isnan(way[name]) | np.isnan(bar[name]))
    return worst_group(way[name][known_Q], bar[name][known_Q], evidence.groups_Q[known_Q])


def _flips(bar: Measures, way: Measures) -> float | None:
    name = next((name for name in FIRST_IS_RIGHT if name in bar), None)
    return None if name is None else negative_flips(bar[name] > 0.5, way[name] > 0.5)


def _mean(values_Q: npt.NDArray[np.float64]) -> float:
    return float(values_Q.mean()) if values_Q.size else 0.0


def keys_of(result: GateResult) -> Mapping[Method, Key]:
    """Which variant of each method the gate judged."""
    return {line.method: (line.method, line.variant) for line in result.ways}
