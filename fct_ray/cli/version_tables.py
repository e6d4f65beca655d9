"""A store's versions on the console, and as objects for programs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fct_ray.plan.collection import Collected
from fct_ray.report.quantities import store_name
from fct_ray.storage import documents
from fct_ray.values import Current, Manifest


def print_status(manifest: Manifest, store_uri: str) -> None:
    """What is published now, one fact a line."""
    table = Table(
        title=Text(f"{store_name(store_uri)}: version {manifest.version}"), title_justify="left", show_header=False
    )
    side = manifest.side_info
    facts = {
        "store": store_uri,
        "rows": f"{manifest.num_rows:,} in {len(manifest.shards):,} shards",
        "encoder": f"{manifest.encoder.name} ({manifest.encoder.fingerprint[:12]}), {manifest.dimension} dimensions",
        "a query needs": _query_needs(manifest),
        "compared by": f"{manifest.metric.value}{', unit vectors' if manifest.normalized else ''}",
        "side-information": "none" if side is None else f"{side.name}, {side.dimension} dimensions, {side.dtype}",
        "index": "none: searched exactly" if manifest.index is None else manifest.index.factory,
        "made by": manifest.run,
        "at": manifest.created_at,
    }
    for name, value in facts.items():
        table.add_row(name, Text(value))
    Console().print(table)


def version_document(manifest: Manifest) -> dict[str, object]:
    """The facts of `print_status` for programs; shards are counted, not listed."""
    whole = documents.plain(manifest)
    names = (
        "version",
        "parent",
        "created_at",
        "run",
        "dimension",
        "metric",
        "normalized",
        "encoder",
        "queries",
        "side_info",
        "index",
    )
    facts = {name: whole[name] for name in names}
    return {"rows": manifest.num_rows, "shards": len(manifest.shards), **facts}


def collected_document(found: Collected, store_uri: str, *, dry_run: bool) -> dict[str, object]:
    """What stays and what goes, or went, for programs."""
    return {
        "store": store_uri,
        "dry_run": dry_run,
        "kept": {str(number): reason for number, reason in found.kept.items()},
        "versions": list(found.versions),
        "objects": list(found.paths),
        "holding_deleted": list(found.holding_deleted),
    }


def print_history(manifests: Sequence[Manifest], current: Current | None) -> None:
    """All complete versions, the published one marked."""
    table = Table(title="versions", title_justify="left")
    for name in ("", "version", "parent", "rows", "encoder", "index", "at", "run"):
        table.add_column(name)
    for manifest in manifests:
        mark = "*" if current is not None and current.version == manifest.version else ""
        index = "none" if manifest.index is None else manifest.index.factory
        cells = (mark, manifest.version, manifest.parent or "", f"{manifest.num_rows:,}", manifest.encoder.name, index)
        table.add_row(*(Text(str(cell)) for cell in (*cells, manifest.created_at, manifest.run)))
    Console().print(table)


def _query_needs(manifest: Manifest) -> str:
    """The embeddings that make up a query; where there are several, with the names of their columns in a file of queries."""
    if not manifest.queries:
        return f"its embedding by {manifest.encoder.name}"
    return "; ".join(
        f"{query.role}: by {query.encoder.name}, {query.dimension} dimensions" for query in manifest.queries
    )


def print_problems(problems: Sequence[str]) -> None:
    """What a check of a version found, one problem a line."""
    console = Console(stderr=bool(problems))
    if not problems:
        console.print("no problems found")
    for problem in problems:
        console.print(Text(f"problem: {problem}"))


def print_collected(found: Collected, *, dry_run: bool) -> None:
    """What stays and why, and what goes (or went)."""
    table = Table(title="versions that stay", title_justify="left")
    table.add_column("version")
    table.add_column("because")
    for number, reason in sorted(found.kept.items()):
        note = "; holds items that were deleted since (--purge-deleted)" if number in found.holding_deleted else ""
        table.add_row(str(number), Text(reason + note))
    console = Console()
    console.print(table)
    versions = ", ".join(str(number) for number in found.versions) or "none"
    verb = "would be deleted (repeat with --no-dry-run)" if dry_run else "deleted"
    console.print(Text(f"versions {verb}: {versions}; objects: {len(found.paths):,}"))
    for path in found.paths if dry_run else ():
        console.print(Text(f"  {path}"))
