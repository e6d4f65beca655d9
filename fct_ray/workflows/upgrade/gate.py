"""The gate of an upgrade: held-out pairs through every candidate, measured, and judged.

Owns: which ways to search are compared, running h for them, and the precision that it is judged in. What is measured of a
way is in evaluation/held_out, the decision in plan/gate.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from fct_ray.evaluation import ways
from fct_ray.evaluation.compatibility import cosine_mean, recovered_shares
from fct_ray.evaluation.held_out import HeldOutItems, held_out_evidence
from fct_ray.evaluation.ways import WayToSearch
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.gate import judge, loses_too_much, with_loss
from fct_ray.plan.splits import sample_mask
from fct_ray.values import CompatibilityRow, GateResult, Method, Metric, Precision, RecoveredShare, Usage
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.settings import GateSettings

logger = logging.getLogger(__name__)
MAX_HELD_OUT = 4000  # scores are held_out x held_out: more would sharpen the bounds little and cost quadratically


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOutcome:
    """The decision, and the compatibility table on held-out pairs (with labels only)."""

    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    recovered: Mapping[Method, RecoveredShare]
    usage: Usage


class Gate(Protocol):
    """`run_gate` with everything given but the precision."""

    def __call__(self, *, precision: Precision) -> GateOutcome:
        """Judge the candidates computed in this precision."""


def run_gate_in(gate: Gate, *, asked: Precision | None, fast: Precision) -> GateOutcome:
    """The gate in the precision that is asked for; where none is, in the fast one unless that loses too much."""
    exact = gate(precision=Precision.FLOAT32)
    if (asked or fast) is Precision.FLOAT32:
        return exact
    outcome = gate(precision=asked or fast)
    result, usage = with_loss(outcome.result, exact.result), exact.usage + outcome.usage
    if asked is None and loses_too_much(result):
        logger.info("h is computed in float32: in %s it would lose %.4f of agreement", fast, result.precision_loss)
        return replace(exact, usage=usage)
    return replace(outcome, result=result, usage=usage)


def run_gate(
    pairs: Pairs,
    candidates: Mapping[Method, LoadedModel],
    *,
    old_metric: Metric,
    new_metric: Metric,
    settings: GateSettings,
    batch_rows: int,
    uncovered_share: float,
    precision: Precision,
) -> GateOutcome:
    """Judge the candidates, computed in this precision, on held-out pairs; see plan/gate for the decision."""
    pairs = pairs.rows(sample_mask(pairs.ids_P, min(MAX_HELD_OUT, len(pairs.ids_P)), 0))
    outputs = run_candidates(pairs, candidates, new_metric, batch_rows=batch_rows, precision=precision)
    bar = ways.doing_nothing(pairs.old_PD, pairs.old_PD, old_metric)
    ceiling = ways.full_backfill(pairs.new_PW, pairs.new_PW, new_metric)
    direct = ways.direct(pairs.new_PW, pairs.old_PD, new_metric)
    side = pairs.side_PS
    fused = None if side is None else ways.fused_search(pairs.old_PD, side, pairs.old_PD, side)
    evidence = held_out_evidence(
        [way for way in (bar, ceiling, direct, *outputs.ways, fused) if way is not None],
        HeldOutItems(ids_Q=pairs.ids_P, labels_Q=pairs.labels_P),
        ceiling=ceiling,
        cosines={way.method: cosine_mean(way.gallery_GD, pairs.new_PW) for way in outputs.ways},
        k=settings.k,
        min_labelled=MIN_GATE_PAIRS,
    )
    scores = evidence.scores
    result = judge(
        candidates={method: scores[method] for method in candidates},
        bar=scores[bar.method],
        ceiling=scores[ceiling.method],
        fused=None if fused is None else scores[fused.method],
        k=settings.k,
        groups_Q=pairs.labels_P,
        tolerance=settings.tolerance,
        has_side_information=side is not None,
        uncovered_share=uncovered_share,
    )
    return GateOutcome(
        result=replace(result, precision=precision),
        compatibility=evidence.rows,
        recovered=recovered_shares(evidence.rows) if evidence.rows else {},
        usage=outputs.usage,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateOutputs:
    """Every candidate as a way to search, and the work of running them."""

    ways: tuple[WayToSearch, ...]
    usage: Usage


def run_candidates(
    pairs: Pairs, candidates: Mapping[Method, LoadedModel], metric: Metric, *, batch_rows: int, precision: Precision
) -> CandidateOutputs:
    """Run every candidate over the pairs: new queries on its outputs, one way for each, in their order."""
    found, usage = [], Usage()
    for method, model in candidates.items():
        runner = TransformRunner(model, batch_rows=batch_rows, precision=precision)
        output_PW, used = runner.run(pairs.old_PD, pairs.side_PS)
        usage += used
        found.append(ways.transformed(method, pairs.new_PW, output_PW, metric, uses_side=runner.uses_side))
    return CandidateOutputs(ways=tuple(found), usage=usage)
