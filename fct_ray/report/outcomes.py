"""From what a job's engine returned to the report that people read.

Owns: which of an outcome's figures a report shows. Reads outcomes; starts nothing, and imports the engine's types only to
check types: looking at a store need not load torch and Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fct_ray.kinds import Provenance, QueryRole, Task
from fct_ray.plan.cost import cost_usd, total_usd
from fct_ray.plan.identity import run_id
from fct_ray.report.content import Pricing, Report, Saved, Spend
from fct_ray.report.environment import describe_environment
from fct_ray.report.quantities import duration, money
from fct_ray.values import Manifest, Usage

if TYPE_CHECKING:
    from fct_ray.plan.forecast import Forecast
    from fct_ray.plan.savings import SavedWork
    from fct_ray.workflows.commit import Committed
    from fct_ray.workflows.compare import AgainstBackfill, ComparisonOutcome
    from fct_ray.workflows.edit import EditOutcome
    from fct_ray.workflows.fit.encoder import FittedEncoder
    from fct_ray.workflows.fit.transformation import FittedTransformation
    from fct_ray.workflows.upgrade.plan import UpgradePlan
    from fct_ray.workflows.upgrade.preview import Preview
    from fct_ray.workflows.upgrade.run import UpgradeOutcome
    from fct_ray.workflows.verify import Verified


def plan_report(plan: UpgradePlan, settings: object, pricing: Pricing, seen: Preview | None = None) -> Report:
    """What `--plan` says: the forecast and, with `seen`, the ways of upgrading; nothing published."""
    store, parent = plan.store.uri, plan.parent
    report = _report("upgrade", store, parent.version, parent.num_rows, plan.run, {}, settings, pricing)
    note = "planned only: nothing was embedded or published, and the versions of the store are untouched"
    return dataclasses.replace(
        report,
        forecast=plan.forecast,
        actual=None,
        planned_ways=() if seen is None else seen.ways,
        notes=(*_planned(plan), *_recommended(plan, seen), note, *_left_out(plan.forecast)),
    )


def _recommended(plan: UpgradePlan, seen: Preview | None) -> tuple[str, ...]:
    """What the ways in closed form let expect of the upgrade."""
    if seen is None:
        return ()
    if seen.result is None:
        return (
            "recommendation: none before the pairs are embedded; the upgrade embeds them, judges, and then decides",
        )
    network = "would be fitted, too, and may do better" if seen.fits_network else "would not be fitted"
    ways = f"ways in closed form (the network h {network})"
    not_embedded = {"pseudo-queries": plan.pseudo is not None, "refined items": plan.num_to_refine > 0}
    without = " and ".join(name for name, is_asked_for in not_embedded.items() if is_asked_for)
    if without:
        return (
            f"{ways} without {without}: {seen.result.reason}",
            f"recommendation: none before {without} are embedded; the upgrade judges with them, and may decide otherwise",
        )
    advice = (f"next: {seen.result.advice}",) if seen.result.advice else ()
    return (f"recommendation, by {ways}; now the gate would say: {seen.result.reason}", *advice)


def _planned(plan: UpgradePlan) -> tuple[str, ...]:
    """What was checked and would be done, in sentences."""
    parent, settings, space = plan.parent, plan.settings, plan.space
    side = parent.side_info
    stored = "no side-information" if side is None else f"side-information of {side.dimension} dimensions"
    pairs = "the pairs that were given" if settings.pairs else f"{plan.num_pairs:,} items of {settings.source} as pairs"
    reads = "reads the side-information" if plan.use_side else "reads the old embeddings alone"
    h = f"a map h that {reads} is fitted on {pairs}" if plan.given is None else f"the given h is judged on {pairs}"
    new = f"{plan.choice.ref.name} ({space.dimension} dimensions, compared by {space.metric.value})"
    old = f"{parent.encoder.name} ({parent.dimension} dimensions), {stored}"
    notes = [
        f"from: version {parent.version}, {parent.num_rows:,} rows in {len(parent.shards):,} shards, by {old}",
        f"to: {new}, index {settings.index}",
        f"how: {h}; nothing is published unless a way is shown to be better than doing nothing, by {_judged_by(plan)}",
        "checked: store, encoder, ids and dimensions of the pairs, index type, budget",
    ]
    if plan.num_to_refine:
        share = f"{plan.num_to_refine:,} items, {plan.num_to_refine / parent.num_rows:.2%} of the gallery"
        notes.append(f"refine: {share}, drawn by how uncertain maps are of them, are embedded with the new model")
    if plan.finished is not None:
        notes.append(f"done already: version {plan.finished.version} was published by this very upgrade")
    return tuple(notes)


def _judged_by(plan: UpgradePlan) -> str:
    """What is known of the evidence before anything was read."""
    if plan.queries is not None:
        return f"the {len(plan.queries.judged.ids_Q):,} real queries of {plan.queries.uri}"
    if plan.pseudo is not None:
        return _judged_by_views(plan)
    return "labels where the store has them, else by what the new model says of what each way returns (--queries is better)"


def _judged_by_views(plan: UpgradePlan) -> str:
    """Which tasks pseudo-queries decide, and which ways they cannot judge."""
    views = f"pseudo-queries ({plan.settings.views})"
    said = {
        None: f"{views}, and by nothing that shows similar items found less often",
        Task.KNOWN_ITEM: views,
        Task.SIMILAR: f"labels or the new model; {views} tell what becomes of known items",
    }[plan.settings.task]
    if plan.pseudo is not None and plan.use_side and QueryRole.SIDE not in plan.pseudo.encoders:
        said += "; ways that join side-information are left out, there is no --side-encoder"
    return said


def upgrade_report(
    outcome: UpgradeOutcome,
    settings: object,
    pricing: Pricing,
    against: AgainstBackfill | None = None,
) -> Report:
    """An upgrade's report; quality on real queries where it was measured, else on the held-out pairs."""
    report = _report("upgrade", outcome.plan.store.uri, *_version_and_rows(outcome), outcome.stages, settings, pricing)
    return dataclasses.replace(_judged(report, outcome, against), forecast=outcome.plan.forecast)


def _version_and_rows(outcome: UpgradeOutcome) -> tuple[int | None, int, str]:
    """The version that an upgrade published (None: it was refused), the rows of the gallery, and the run."""
    plan, published = outcome.plan, outcome.published
    return None if published is None else published.version, (published or plan.parent).num_rows, plan.run


def _judged(report: Report, outcome: UpgradeOutcome, against: AgainstBackfill | None) -> Report:
    """The report with what the upgrade's gate, its reading back and the comparison measured."""
    judged, quality = outcome.judged, None if against is None else against.quality
    notes = [*outcome.notes, *_left_out(outcome.plan.forecast), *_refined(outcome, report.pricing)]
    if outcome.published is not None and outcome.plan.finished is None:
        notes.append(_read_back(outcome.recall, outcome.plan.settings.verify_shards))
    if outcome.peak_memory_bytes:
        notes.append(f"peak memory of a worker process: {outcome.peak_memory_bytes / 2**30:.2f} GiB")
    if judged is not None and judged.fit_reused:
        notes.append("h was fitted by an earlier run on the same pairs: its busy time is counted, its wall time is not")
    if quality is not None:
        notes += quality.notes
    if quality is None and judged is not None and judged.compatibility:
        notes.append("the compatibility table is measured on held-out pairs: each queries all the others")
    notes += _bad_rows(outcome.num_bad_rows, outcome.plan.run)
    rows = quality.rows if quality is not None else () if judged is None else judged.compatibility
    recovered = quality.recovered if quality is not None else {} if judged is None else judged.recovered
    return dataclasses.replace(
        report,
        gate=None if judged is None else judged.result,
        compatibility=rows,
        recovered_share=recovered,
        saved=None if against is None else _saved(against.saved),
        notes=tuple(notes),
    )


def _refined(outcome: UpgradeOutcome, pricing: Pricing | None) -> tuple[str, ...]:
    """How many items were refined, what that cost, and how much of the gallery holds the new model's own vectors."""
    judged, published, stage = outcome.judged, outcome.published, outcome.stages.get("refine", Usage())
    if judged is None or not judged.num_refined:
        return ()
    cost = money(cost_usd(stage, None if pricing is None else pricing.usd_per_node_hour), stage.node_s)
    said = (
        f"refined: {judged.num_refined:,} items, drawn by how uncertain maps are of them, were embedded with the new model "
        f"(stage refine: {duration(stage.wall_s)}, {cost})"
    )
    if published is None:
        return (said,)
    num_true = sum(record.counts.get(Provenance.EMBEDDED.value, 0) for record in published.shards)
    if not num_true:
        return (f"{said}; maps were fitted on them, and none is kept: no way was better for keeping true vectors",)
    share = num_true / published.num_rows
    return (
        f"{said}; with those of the pairs {num_true:,} vectors, {share:.2%} of the gallery, are now the new model's own",
    )


def embed_report(outcome: Committed, settings: object, pricing: Pricing) -> Report:
    """The report of a full backfill."""
    return _committed_report("embed", outcome, settings, pricing)


def fit_report(fitted: FittedEncoder, settings: object, pricing: Pricing) -> Report:
    """The report of fitting an encoder."""
    report = _report("fit", fitted.uri, None, fitted.usage.rows, fitted.run, {"fit": fitted.usage}, settings, pricing)
    reused = ("this model was fitted before with the same settings: the figures are those of that fit",)
    return dataclasses.replace(report, notes=(f"model: {fitted.uri}", *(reused if fitted.reused else ())))


def transformation_report(fitted: FittedTransformation, settings: object, pricing: Pricing) -> Report:
    """The report of fitting h on a store without upgrading it."""
    judged = fitted.judged
    return dataclasses.replace(
        _report("fit", fitted.store, None, fitted.rows, fitted.run, fitted.stages, settings, pricing),
        gate=judged.result,
        compatibility=judged.compatibility,
        recovered_share=judged.recovered,
        notes=(f"model: {fitted.uri}",),
    )


def comparison_report(outcome: ComparisonOutcome, settings: object, pricing: Pricing) -> Report:
    """An upgrade and the full backfill it replaces, side by side."""
    backfill = outcome.against.backfill.stages
    stages = {**outcome.upgrade.stages, **{f"backfill_{name}": usage for name, usage in backfill.items()}}
    report = _report("compare", outcome.store_uri, *_version_and_rows(outcome.upgrade), stages, settings, pricing)
    return dataclasses.replace(_judged(report, outcome.upgrade, outcome.against), forecast=outcome.forecast)


def version_report(
    job: str, store_uri: str, manifest: Manifest, stages: Mapping[str, Usage], settings: object, pricing: Pricing
) -> Report:
    """The report of a job that published a version without judging one: embed, adopt."""
    return _report(job, store_uri, manifest.version, manifest.num_rows, manifest.run, stages, settings, pricing)


def edit_report(job: str, outcome: EditOutcome, settings: object, pricing: Pricing) -> Report:
    """The report of appending or deleting items."""
    store, manifest = outcome.store.uri, outcome.published
    report = version_report(job, store, manifest, outcome.stages, settings, pricing)
    if not outcome.changed:
        nothing = "nothing to do: it was done already"
        return dataclasses.replace(report, run=run_id(job, "nothing to do", manifest.run), notes=(nothing,))
    changed = f"{outcome.changed:,} items; version {manifest.version} has {manifest.num_rows:,}"
    return dataclasses.replace(report, notes=(changed, *outcome.notes, *_bad_rows(outcome.num_bad_rows, report.run)))


def adopt_report(outcome: Committed, settings: object, pricing: Pricing) -> Report:
    """The report of adopting embeddings."""
    return _committed_report("adopt", outcome, settings, pricing)


def import_report(outcome: Committed, settings: object, pricing: Pricing) -> Report:
    """The report of importing a gallery."""
    return _committed_report("import", outcome, settings, pricing)


def _committed_report(job: str, outcome: Committed, settings: object, pricing: Pricing) -> Report:
    report = version_report(job, outcome.store.uri, outcome.published, outcome.stages, settings, pricing)
    done = f"nothing to do: this very command published version {outcome.published.version} before"
    notes = (*((done,) if outcome.done_before else ()), *outcome.notes, *_bad_rows(outcome.num_bad_rows, report.run))
    return dataclasses.replace(report, notes=notes)


def verify_report(verified: Verified, settings: object, pricing: Pricing) -> Report:
    """The report of checking a version; its notes list the problems."""
    manifest, stages = verified.manifest, {"verify": verified.usage}
    report = version_report("verify", verified.store.uri, manifest, stages, settings, pricing)
    found = "no index" if verified.recall is None else f"recall of the index {verified.recall:.4f}"
    read = f"{verified.num_read} of {len(manifest.shards)} shards read, {verified.num_recomputed} made again; {found}"
    problems = tuple(f"problem: {problem}" for problem in verified.problems)
    run = run_id("verify", manifest.run, str(manifest.version))
    return dataclasses.replace(report, run=run, notes=(read, *(problems or ("no problems found",))))


def _report(
    job: str,
    store_uri: str,
    version: int | None,
    rows: int,
    run: str,
    stages: Mapping[str, Usage],
    settings: object,
    pricing: Pricing,
) -> Report:
    """What every report has."""
    return Report(
        job=job,
        store=store_uri,
        version=version,
        rows=rows,
        run=run,
        stages=stages,
        forecast=None,
        actual=_spend(stages, pricing),
        environment=describe_environment(datetime.now(UTC)),
        pricing=pricing,
        settings=dataclasses.asdict(settings),  # type: ignore[call-overload]
    )


def _bad_rows(number: int, run: str) -> tuple[str, ...]:
    where = f"runs/{run}/quarantine.parquet"
    return (f"{number:,} rows could not be used and were left out; they are listed in {where}",) if number else ()


def _read_back(recall: float | None, num_shards: int) -> str:
    if num_shards == 0:
        return "nothing was read back before publishing (--verify-shards 0): the recall of the new index is not known"
    if recall is None:
        return "the shards read back have no index: no recall was measured"
    return f"recall@10 of the new index against brute force, in the shards read back: {recall:.4f}"


def _left_out(forecast: Forecast) -> tuple[str, ...]:
    return tuple(f"the forecast leaves out {work}" for work in forecast.left_out)


def _saved(saved: SavedWork) -> Saved:
    return Saved(
        factors=saved.all_work,
        variants=saved.variants,
        break_even_rows=saved.break_even_rows,
        projections=saved.projections,
    )


def _spend(stages: Mapping[str, Usage], pricing: Pricing) -> Spend:
    total = sum(stages.values(), Usage())
    usd = total_usd(stages.values(), pricing.usd_per_node_hour)
    return Spend(wall_s=total.wall_s, node_s=total.node_s, usd=usd)
