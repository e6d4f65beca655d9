"""What each way of upgrading would be worth and take, before anything is paid: the table of `--plan`.

    pairs at hand (a file, or embedded by an earlier attempt) --> ways in closed form, judged as the gate would judge them
    none                                                      --> what each way takes; its worth is not known

Owns: which lines the table has, and judging without writing anything or running the new model. The network h is not fitted
here: whether it would be is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fct_ray.engine.cluster import ClusterSize, count_nodes
from fct_ray.judgements import GateResult
from fct_ray.kinds import Method, QueryRole, WayChoice, method_of_transformation
from fct_ray.metering.meters import StageMeter, measure_stage
from fct_ray.models.flops import transformation_flops
from fct_ray.plan import checks
from fct_ray.plan.way_forecast import WayForecast
from fct_ray.storage import objects
from fct_ray.storage import pairs as pair_files
from fct_ray.workflows.upgrade.candidates import Candidate, closed_form_maps, direction_of, network_is_promising
from fct_ray.workflows.upgrade.decision import decide
from fct_ray.workflows.upgrade.evidence import FloatArray, IntArray
from fct_ray.workflows.upgrade.forecast import WayWork, backfill_forecast, network_architecture, upgrade_forecast
from fct_ray.workflows.upgrade.judgement import PAIRS_FILE, held_out_of
from fct_ray.workflows.upgrade.kinds_of_evidence import EvidenceSources
from fct_ray.workflows.upgrade.pair_origin import PairsFromEncoder, PairsFromFile
from fct_ray.workflows.upgrade.pairs import Pairs, pairs_from_file
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.query_origin import looked_up
from fct_ray.workflows.upgrade.ways import every_candidate


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The table of `--plan`."""

    ways: tuple[WayForecast, ...]
    """Doing nothing, every way (best first where they were judged), the full backfill."""
    result: GateResult | None = None
    """What the gate would say of the ways in closed form; None where no pairs are at hand."""
    fits_network: bool = True
    """Whether the upgrade would fit the network h."""


@dataclass(frozen=True, kw_only=True)
class _OnlyReading(EvidenceSources):
    """Evidence that is at hand: nothing is embedded and nothing is written."""

    def new_of(self, ids_P: IntArray) -> FloatArray:
        """The new model's embeddings of these ids. Raises NotJudgedError where they are not known."""
        return self.known_new_of(ids_P)

    def write_wanted(self, ids: IntArray) -> str:  # noqa: ARG002 (told by the upgrade itself)
        """Nothing is asked for yet."""
        return ""


def can_judge(plan: UpgradePlan) -> bool:
    """Whether the pairs are at hand, so that `preview` judges ways; it then needs a cluster, to read the gallery."""
    if plan.given is not None or plan.finished is not None:
        return False
    return isinstance(plan.pairs, PairsFromFile) or objects.exists(plan.store.run_uri(plan.run, PAIRS_FILE))


def preview(plan: UpgradePlan, size: ClusterSize | None, usd_per_node_hour: float | None) -> Preview:
    """What each way of upgrading takes and, on a cluster, what those in closed form are worth.

    Reads the gallery, or a sample of it, by Ray tasks. Writes nothing, and embeds nothing.

    Raises:
        FctRayError: a shard cannot be read, or pairs are not items of the gallery.
    """
    if size is None or not can_judge(plan):
        return Preview(ways=tuple(_table(plan, _not_judged(plan), None, usd_per_node_hour)))
    with measure_stage(count_nodes) as meter:
        result, best, fits_network = _judged(plan, size, meter)
    by_key = {candidate.key: candidate for candidate in best}
    lines = []
    for way in result.ways:
        candidate = by_key[way.method, way.variant]
        work = WayWork(
            flops_per_row=transformation_flops(candidate.model.transformation().architecture),
            dimension=candidate.model.document.dimension,
        )
        lines.append((work, way.method, way.variant, way.query_roles))
    if fits_network:
        lines.append(_network(plan))
    return Preview(ways=tuple(_table(plan, lines, result, usd_per_node_hour)), result=result, fits_network=fits_network)


def _judged(plan: UpgradePlan, size: ClusterSize, meter: StageMeter) -> tuple[GateResult, tuple[Candidate, ...], bool]:
    """The gate's result on ways in closed form, the candidates that it judged, and whether the network is to be fitted."""
    queries = looked_up(plan.queries, plan.store, plan.parent)
    plan = replace(plan, queries=queries, pseudo=None)  # pseudo-queries are still to be embedded
    pairs = _pairs(plan, meter)
    held_out_P = held_out_of(plan, pairs.ids_P)
    checks.check_pair_counts(num_fit=int((~held_out_P).sum()), num_gate=int(held_out_P.sum()))
    fit_on, held_out = pairs.rows(~held_out_P), pairs.rows(held_out_P)
    fitted: tuple[Candidate, ...] = ()
    fits_network = False
    if plan.settings.way is not WayChoice.NOTHING_FITTED:
        fitted = closed_form_maps(fit_on, direction_of(plan), controls=plan.settings.controls, seed=plan.settings.seed)
        fits_network = not plan.settings.asks_pilot or network_is_promising(fitted[0], fitted[-1], held_out)
    sources = _OnlyReading(plan=plan, pairs=pairs, held_out=held_out, refined=None, size=size, meter=meter)
    gallery = sources.gallery()
    decision = decide(plan, sources, gallery, every_candidate(plan, fit_on, fitted, gallery), size)
    return decision.result, decision.best, fits_network


def _pairs(plan: UpgradePlan, meter: StageMeter) -> Pairs:
    uri = plan.store.run_uri(plan.run, PAIRS_FILE)
    if objects.exists(uri) or not isinstance(plan.pairs, PairsFromFile):
        return Pairs.from_table(pair_files.read_table(uri))
    return pairs_from_file(plan.store, plan.parent, plan.pairs, use_side=plan.use_side, meter=meter)


_Line = tuple[WayWork, Method, str, tuple[QueryRole, ...]]


def _not_judged(plan: UpgradePlan) -> Iterator[_Line]:
    """One way of each sort, by dimensions alone."""
    network = network_architecture(plan.settings, plan.parent, plan.space, use_side=plan.use_side)
    old, side, new = network.old_dimension, network.side_dimension, network.new_dimension
    stored, whitening = (QueryRole.OLD, QueryRole.SIDE) if side else (QueryRole.OLD,), 2.0 * (old * old + side * side)
    linear = float(transformation_flops(replace(network, kind="linear")))
    joined = Method.FUSED_WHITENED if side else Method.WHITENED
    if not plan.parent.queries:
        yield WayWork(flops_per_row=whitening, dimension=old + side), joined, "", stored
    if plan.settings.way is WayChoice.NOTHING_FITTED:
        return
    method = method_of_transformation("linear", reads_side=side > 0)
    yield WayWork(flops_per_row=linear, dimension=new), method, "", (QueryRole.NEW,)
    yield _network(plan)
    if not plan.parent.queries:
        work = WayWork(flops_per_row=linear + whitening, dimension=new + old + side)
        yield work, Method.FUSED_LINEAR, "", (QueryRole.NEW, *stored)


def _network(plan: UpgradePlan) -> _Line:
    """The network h."""
    network = network_architecture(plan.settings, plan.parent, plan.space, use_side=plan.use_side)
    work = WayWork(flops_per_row=transformation_flops(network), dimension=plan.space.dimension, fits_network=True)
    return work, method_of_transformation("mlp", reads_side=network.side_dimension > 0), "", (QueryRole.NEW,)


def _table(
    plan: UpgradePlan, lines: Iterator[_Line] | list[_Line], result: GateResult | None, usd_per_node_hour: float | None
) -> Iterator[WayForecast]:
    judged = {} if result is None else {(way.method, way.variant): way for way in result.ways}
    yield WayForecast(method=Method.OLD_OLD, query_roles=(QueryRole.OLD,), bytes_per_item=0, forecast=None)
    for work, method, variant, roles in lines:
        way = judged.get((method, variant))
        yield WayForecast(
            method=method,
            variant=variant,
            check=None if way is None else way.checks[0],
            clears=way is not None and way.clears,
            query_roles=roles,
            bytes_per_item=4 * work.dimension,
            forecast=upgrade_forecast(
                plan.settings,
                plan.parent,
                plan.space,
                use_side=plan.use_side,
                pairs=plan.pairs,
                pseudo=plan.pseudo,
                num_to_refine=plan.num_to_refine,
                way=work,
                usd_per_node_hour=usd_per_node_hour,
                size=None,
            ),
        )
    encoder = plan.pairs.opened if isinstance(plan.pairs, PairsFromEncoder) else None
    rows = plan.parent.num_rows
    yield WayForecast(
        method=Method.NEW_NEW,
        query_roles=(QueryRole.NEW,),
        bytes_per_item=4 * plan.space.dimension,
        forecast=None
        if encoder is None or not encoder.flops_per_item
        else backfill_forecast(rows, encoder, usd_per_node_hour=usd_per_node_hour, size=None),
    )
