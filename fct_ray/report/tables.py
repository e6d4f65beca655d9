"""The report's tables as text cells, each with one sentence for newcomers; shared by console, Markdown and HTML.

Owns: which tables there are, their columns and their order. Knows no output format; escaping is the renderer's.
"""

from __future__ import annotations

from collections.abc import Sequence

from fct_ray.judgements import GateCheck, GateResult
from fct_ray.kinds import Method
from fct_ray.plan.way_forecast import WayForecast
from fct_ray.report.content import Report
from fct_ray.report.explanations import METHOD_TITLES, REFERENCES, ordered_rows
from fct_ray.report.quantities import (
    UNKNOWN,
    bytes_text,
    count,
    duration,
    flops_text,
    money,
    percent,
)
from fct_ray.report.savings_tables import projection_table, savings_table
from fct_ray.report.text_table import Table
from fct_ray.values import Manifest

EVERY_MEASURE = "Each measure of the chosen way is held against doing nothing: old queries on the old gallery."


def tables_of(report: Report) -> tuple[Table, ...]:
    """All tables that apply, in the order in which a newcomer should read them."""
    candidates = (
        planned_ways_table(report),
        compatibility_table(report),
        savings_table(report),
        projection_table(report),
        stage_table(report),
        spend_table(report),
        gate_table(report),
        ways_table(report),
    )
    return tuple(table for table in candidates if table is not None)


def compatibility_table(report: Report) -> Table | None:
    """Retrieval of every pairing of queries and gallery, with the share of the gain that it recovers."""
    if not report.compatibility:
        return None
    rows = ordered_rows(report.compatibility)
    cells = []
    for row in rows:
        share = report.recovered_share.get(row.method)
        cells.append(
            (
                METHOD_TITLES[row.method],
                row.query,
                row.gallery,
                "yes" if row.side_information else "no",
                percent(row.top1),
                percent(row.top5),
                percent(row.map),
                "" if share is None else percent(share.top1),
                "" if share is None else percent(share.map),
            )
        )
    header = ("method", "query", "gallery", "side", "top-1", "top-5", "mAP", "recovered top-1", "recovered mAP")
    return Table(
        name="compatibility",
        title="Compatibility: who can search what, and how well",
        sentence="Each line is one pairing of query model and gallery; recovered is the share of the full backfill's "
        "gain over doing nothing, (method - old/old) / (new/new - old/old).",
        header=header,
        rows=tuple(cells),
        emphasized=frozenset(place for place, row in enumerate(rows) if row.method in REFERENCES),
    )


def stage_table(report: Report) -> Table | None:
    """What every stage used."""
    if not report.stages:
        return None
    tokens = ("tokens",) if any(usage.tokens for usage in report.stages.values()) else ()
    rows = [
        (
            name,
            duration(usage.wall_s),
            duration(usage.busy_cpu_s),
            duration(usage.busy_gpu_s),
            flops_text(usage.flops),
            bytes_text(usage.bytes_read),
            bytes_text(usage.bytes_written),
            count(usage.rows),
            *(count(usage.tokens) for _ in tokens),
            money(report.stage_usd(name), usage.node_s),
        )
        for name, usage in report.ordered_stages()
    ]
    return Table(
        name="stages",
        title="Work per stage",
        sentence="Work is counted where it happens and summed over all attempts; busy CPU is the time of all "
        "threads, FLOPs count two per multiply-add, and money is node-hours held times the price of a node-hour."
        + (" Tokens are what embeddings endpoints counted; money does not include their price." if tokens else ""),
        header=("stage", "wall", "busy CPU", "busy GPU", "FLOPs", "read", "written", "rows", *tokens, "cost"),
        rows=tuple(rows),
    )


def spend_table(report: Report) -> Table | None:
    """Forecast against actual."""
    spends = [(name, spend) for name, spend in (("forecast", report.forecast), ("actual", report.actual)) if spend]
    if not spends:
        return None
    return Table(
        name="spend",
        title="Forecast against actual",
        sentence="What the plan expected before any work started, and what the run took; node time is the time "
        "during which machines were held, busy or not." + _price_note(report),
        header=("", "wall", "cost", "node time"),
        rows=tuple(
            (name, duration(spend.wall_s), money(spend.usd, spend.node_s), duration(spend.node_s))
            for name, spend in spends
        ),
    )


def _price_note(report: Report) -> str:
    price = report.pricing
    if price is None:
        return " No price was given, so cost is in node-hours."
    market = "spot" if price.spot else "on demand"
    return (
        f" Money: {price.node_type} {market} at ${price.usd_per_node_hour:.4g} an hour, {price.region}, "
        f"prices of {price.book_date}."
    )


def gate_table(report: Report) -> Table | None:
    """What the chosen way had to clear."""
    gate = report.gate
    if gate is None:
        return None
    verdict = "passed" if gate.passed else "REFUSED: nothing was published"
    return Table(
        name="gate",
        title=f"Gate: {verdict}",
        sentence=" ".join(text for text in _gate_sentences(gate) if text),
        header=("measure", "way", "doing nothing", "difference", "95 % lower bound", "wanted", "passed"),
        rows=tuple(
            (
                check.measure,
                percent(check.candidate),
                percent(check.bar),
                _signed(check.margin),
                _signed(check.margin_low),
                "proven better" if check.must_be_proven else "not worse",
                "yes" if check.passed else "no",
            )
            for check in gate.checks
        ),
    )


def ways_table(report: Report) -> Table | None:
    """Every way of upgrading that was compared, best first."""
    if report.gate is None or not report.gate.ways:
        return None
    ways, names = report.gate.ways, [check.measure for check in report.gate.ways[0].checks]
    bar = ("doing nothing", "old", "", *(percent(check.bar) for check in ways[0].checks), "", "")
    rows = [
        (
            f"{way.method.replace('_', ' ')}{f' ({way.variant})' if way.variant else ''}",
            " + ".join(way.query_roles),
            bytes_text(way.bytes_per_item),
            *(percent(check.candidate) for check in way.checks),
            _signed(way.checks[0].margin_low),
            "yes" if way.clears else "no",
        )
        for way in ways
    ]
    return Table(
        name="ways",
        title="Ways of upgrading",
        sentence="Best first: those that are proven better than doing nothing and worse in nothing, then the others. The "
        f"bound is that of the difference in {names[0]}, with 95 % confidence for all ways together; queries says which "
        "embeddings of a query a way needs.",
        header=("way", "queries", "bytes per item", *names, "lower bound", "clears"),
        rows=(bar, *rows),
        emphasized=frozenset({0}),
    )


def planned_ways_table(report: Report) -> Table | None:
    """With `--plan`: every way of upgrading, what it is worth and takes."""
    lines = report.planned_ways
    if not lines:
        return None
    check = next((line.check for line in lines if line.check is not None), None)
    worth = "Worth is not known before the pairs are embedded."
    if check is not None:
        worth = (
            f"Best first; {check.measure} as the gate would measure it now, with the lower bound of its difference to doing "
            "nothing (95 % confidence for all ways together)."
        )
    rows = [
        (
            _way(line),
            " + ".join(line.query_roles),
            bytes_text(line.bytes_per_item) if line.bytes_per_item else "",
            *_worth(line, check),
            _takes(line),
        )
        for line in lines
    ]
    return Table(
        name="planned_ways",
        title="Ways of upgrading: what each is worth and takes",
        sentence=f"{worth} Queries says which embeddings of a query a way needs; what it takes is a forecast with pairs and "
        "gate included.",
        header=("way", "queries", "bytes per item", "quality", "lower bound", "clears", "takes"),
        rows=tuple(rows),
        emphasized=frozenset({0, len(rows) - 1}),
    )


def _way(line: WayForecast) -> str:
    named = {Method.OLD_OLD: "doing nothing", Method.NEW_NEW: "full backfill"}
    name = named.get(line.method, line.method.replace("_", " "))
    return f"{name} ({line.variant})" if line.variant else name


def _worth(line: WayForecast, check: GateCheck | None) -> tuple[str, str, str]:
    if line.method is Method.OLD_OLD and check is not None:
        return percent(check.bar), "", ""
    if line.check is None:
        return "not known", "", ""
    return percent(line.check.candidate), _signed(line.check.margin_low), "yes" if line.clears else "no"


def _takes(line: WayForecast) -> str:
    if line.method is Method.OLD_OLD:
        return "nothing"
    if line.forecast is None:
        return "not known"
    return f"{duration(line.forecast.wall_s)}, {money(line.forecast.usd, line.forecast.node_s)}"


def versions_table(store_uri: str, manifests: Sequence[Manifest], current: int | None) -> Table:
    """The versions of a store, oldest first, the published one marked."""
    rows = [
        (
            str(manifest.version),
            "published" if manifest.version == current else "",
            "" if manifest.parent is None else str(manifest.parent),
            count(manifest.num_rows),
            _query_encoders(manifest),
            str(manifest.dimension),
            "none" if manifest.side_info is None else f"{manifest.side_info.name}, {manifest.side_info.dimension}",
            "none: searched exactly" if manifest.index is None else manifest.index.factory,
            manifest.created_at,
        )
        for manifest in manifests
    ]
    return Table(
        name="versions",
        title=f"Store {store_uri}",
        sentence="Queries of the encoder in the published line can search the store; where it names several, by role, a "
        "query brings an embedding by each."
        if rows
        else "Nothing is published yet.",
        header=("version", "", "made from", "rows", "encoder", "dimensions", "side-information", "index", "at"),
        rows=tuple(rows),
        emphasized=frozenset(place for place, manifest in enumerate(manifests) if manifest.version == current),
    )


def _query_encoders(manifest: Manifest) -> str:
    """Whose queries search a version: one encoder, or several with their roles ("old: api-v1, side: simclr")."""
    if not manifest.queries:
        return manifest.encoder.name
    return ", ".join(f"{query.role}: {query.encoder.name}" for query in manifest.queries)


def _gate_sentences(gate: GateResult) -> tuple[str, ...]:
    """The evidence and what came out; then what becomes of the other task, the precision, and what to do."""
    other = "" if gate.other_task is None else gate.other_task.sentence
    return (gate.reason or EVERY_MEASURE, other, _precision(gate), gate.advice)


def _precision(gate: GateResult) -> str:
    if gate.precision_loss is None:
        return ""
    return f"Vectors are computed in {gate.precision}; against float32 that lost {percent(gate.precision_loss)}."


def _signed(share: float) -> str:
    text = percent(share)
    return text if text == UNKNOWN or share < 0 else f"+{text}"
