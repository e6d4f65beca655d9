"""Measuring the gate's numbers: held-out pairs through every candidate, one score per query.

Owns: which searches are compared on held-out pairs. Each held-out item queries the gallery of all held-out items, itself
excluded. The decision is plan/gate's; the measures are evaluation's.

    doing nothing   old queries  on old embeddings        (the bar)
    candidate       new queries  on h(old, side)
    fused           [old; side]  on [old; side]            (nothing fitted)
    ceiling         new queries  on true new embeddings
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fct_ray.evaluation import agreement, fused, retrieval
from fct_ray.evaluation.compatibility import WayToSearch, cosine_mean, recovered_shares
from fct_ray.models.files import LoadedModel
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.gate import HeldOutScores, judge, loses_too_much, with_loss
from fct_ray.plan.splits import sample_mask
from fct_ray.values import CompatibilityRow, GateResult, Metric, Precision, RecoveredShare, Usage
from fct_ray.workflows.upgrade.pairs import Pairs

logger = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float32]
MAX_HELD_OUT = 4000  # scores are held_out x held_out: more would sharpen the bounds little and cost quadratically


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """How h is judged before anything is published."""

    share: float = 0.2
    """Share of the pairs that are held out from the fit, chosen by a hash of the id."""
    k: int = 10
    """Neighbours compared: how many of the new model's own top-k are found."""
    tolerance: float = 0.0
    """How much worse than doing nothing is still accepted, in shares of 1; 0 asks for proven better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOutcome:
    """The decision, and the compatibility table on held-out pairs (with labels only)."""

    result: GateResult
    compatibility: tuple[CompatibilityRow, ...]
    recovered: Mapping[str, RecoveredShare]
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
    candidates: Mapping[str, LoadedModel],
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
    ways = [
        WayToSearch(
            method="old_old",
            query="old",
            gallery="old",
            query_QD=pairs.old_PD,
            gallery_GD=pairs.old_PD,
            metric=old_metric,
        ),
        _new_queries("new_new", "new", pairs, pairs.new_PW, new_metric),
    ]
    if pairs.old_PD.shape[1] == pairs.new_PW.shape[1]:
        ways.append(_new_queries("direct", "old", pairs, pairs.old_PD, new_metric))
    usage, cosines = Usage(), {}
    for method, model in candidates.items():
        runner = TransformRunner(model, batch_rows=batch_rows, precision=precision)
        output_PW, used = runner.run(pairs.old_PD, pairs.side_PS)
        usage, cosines[method] = usage + used, cosine_mean(output_PW, pairs.new_PW)
        gallery = "h(old, side)" if runner.uses_side else "h(old)"
        ways.append(_new_queries(method, gallery, pairs, output_PW, new_metric, side_information=runner.uses_side))
    if pairs.side_PS is not None:
        both = fused.fuse(pairs.old_PD, pairs.side_PS)
        ways.append(
            WayToSearch(
                method="fused",
                query="old + side",
                gallery="old + side",
                query_QD=both,
                gallery_GD=both,
                metric=Metric.IP,
                side_information=True,
            )
        )
    labelled = pairs.labels_P is not None and _num_with_relevant(pairs.labels_P) >= MIN_GATE_PAIRS
    reference_QK = _neighbours(pairs.new_PW, pairs.new_PW, new_metric, pairs, settings.k)
    scores, rows = {}, []
    for way in ways:
        found_QK = _neighbours(way.query_QD, way.gallery_GD, way.metric, pairs, settings.k)
        judged = _judged(way, pairs) if labelled else None
        scores[way.method] = HeldOutScores(
            agreement_Q=agreement.neighbour_agreement(reference_QK, found_QK),
            average_precision_Q=None if judged is None else _spread(judged, judged.average_precision_Q, np.nan),
            top1_right_Q=None if judged is None else _spread(judged, judged.top1_Q, 0.0) > 0,
            cosine=cosines.get(way.method, 0.0),
        )
        if judged is not None:
            rows.append(way.row(judged.quality()))
    result = judge(
        candidates={method: scores[method] for method in candidates},
        bar=scores["old_old"],
        ceiling=scores["new_new"],
        fused=scores.get("fused"),
        k=settings.k,
        groups_Q=pairs.labels_P,
        tolerance=settings.tolerance,
        has_side_information=pairs.side_PS is not None,
        uncovered_share=uncovered_share,
    )
    recovered = recovered_shares(rows) if rows else {}
    result = replace(result, precision=precision)
    return GateOutcome(result=result, compatibility=tuple(rows), recovered=recovered, usage=usage)


def _new_queries(
    method: str, gallery: str, pairs: Pairs, gallery_GD: FloatArray, metric: Metric, *, side_information: bool = False
) -> WayToSearch:
    return WayToSearch(
        method=method,
        query="new",
        gallery=gallery,
        query_QD=pairs.new_PW,
        gallery_GD=gallery_GD,
        metric=metric,
        side_information=side_information,
    )


def _neighbours(
    query_QD: FloatArray, gallery_GD: FloatArray, metric: Metric, pairs: Pairs, k: int
) -> npt.NDArray[np.intp]:
    return agreement.top_k(query_QD, gallery_GD, k, metric=metric, query_ids_Q=pairs.ids_P, gallery_ids_G=pairs.ids_P)


def _judged(way: WayToSearch, pairs: Pairs) -> retrieval.PerQuery:
    assert pairs.labels_P is not None  # noqa: S101 (the caller asks only where there are labels)
    return retrieval.per_query(
        way.query_QD,
        way.gallery_GD,
        pairs.labels_P,
        pairs.labels_P,
        metric=way.metric,
        query_ids_Q=pairs.ids_P,
        gallery_ids_G=pairs.ids_P,
    )


def _num_with_relevant(labels_P: npt.NDArray[np.int64]) -> int:
    """Held-out items that share their label with another one: only they can be judged by label."""
    _, counts = np.unique(labels_P, return_counts=True)
    return int(counts[counts > 1].sum())


def _spread(judged: retrieval.PerQuery, values_E: npt.ArrayLike, missing: float) -> npt.NDArray[np.float64]:
    """One value per held-out query; `missing` where the query had nothing relevant to find."""
    values_Q = np.full(len(judged.queries_Q) + judged.num_without_relevant, missing)
    values_Q[judged.queries_Q] = values_E
    return values_Q
