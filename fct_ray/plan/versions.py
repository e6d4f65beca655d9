"""Manifests from receipts: what a new version is, and whether the work for it is complete.

Owns: how a manifest follows from its parent and the ledger, and the checks that nothing is missing, doubled or
made from other input. Knows no storage: reading the ledger and writing the manifest is the caller's; the time is an
argument (`created_at`, ISO 8601 with zone).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence

from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.judgements import GateResult
from fct_ray.kinds import KeyType, Metric
from fct_ray.values import (
    AdoptedLayout,
    EncoderRef,
    IndexRef,
    Manifest,
    QueryInput,
    Receipt,
    ShardRecord,
    SideInfoRef,
    TransformationRef,
)

_NUM_NAMED = 8


def upgraded_manifest(
    parent: Manifest,
    *,
    version: int,
    created_at: str,
    encoder: EncoderRef,
    dimension: int,
    metric: Metric,
    normalized: bool,
    transformation: TransformationRef,
    index: IndexRef | None,
    receipts: Sequence[Receipt],
    gate: GateResult | None,
    run: str,
    queries: tuple[QueryInput, ...] = (),
) -> Manifest:
    """The manifest of an upgrade of `parent`: same shards, rows, ids and side-information, new embeddings.

    `queries` says which embeddings make up a query, where these are not those of `encoder` as they are.

    Raises:
        IncompleteRunError: a shard has no receipt, two, or one made from other input, with other rows or ids, or
            without its index; the message lists them.
        SettingsError: `version` is not above the parent's.
    """
    if version <= parent.version:
        raise SettingsError(f"new version is {version}, wanted one above the parent's {parent.version}")
    records = _records_of(receipts, run)
    problems = _numbering_problems(records, [record.shard for record in parent.shards])
    by_shard = {record.shard: record for record in records}
    for before in parent.shards:
        after = by_shard.get(before.shard)
        if after is not None:
            problems += _differences(before, after, index=index)
    _raise_if_any(problems, run)
    return Manifest(
        version=version,
        parent=parent.version,
        created_at=created_at,
        num_rows=sum(record.rows for record in records),
        dimension=dimension,
        metric=metric,
        normalized=normalized,
        encoder=encoder,
        side_info=parent.side_info,
        transformation=transformation,
        index=index,
        shards=tuple(records),
        gate=gate,
        run=run,
        queries=queries,
        keys=parent.keys,
    ).with_format_version()


def embedded_manifest(
    *,
    version: int,
    created_at: str,
    encoder: EncoderRef,
    dimension: int,
    metric: Metric,
    normalized: bool,
    side_info: SideInfoRef | None,
    index: IndexRef | None,
    receipts: Sequence[Receipt],
    num_shards: int,
    num_rows: int,
    run: str,
    parent: int | None = None,
    keys: KeyType | None = None,
) -> Manifest:
    """The manifest of a full backfill: shards 0 .. num_shards - 1 with `num_rows` rows in all, from raw items.

    Raises:
        IncompleteRunError: a shard has no receipt or two, lacks its index, or the rows do not sum to `num_rows`.
    """
    records = _records_of(receipts, run)
    problems = _numbering_problems(records, list(range(num_shards)))
    for record in records:
        problems += _index_problems(record, index=index)
    rows, bad = sum(record.rows for record in records), sum(record.quarantined for record in records)
    _raise_if_any(problems or _sum_problems(rows, bad, num_rows), run)
    return Manifest(
        version=version,
        parent=parent,
        created_at=created_at,
        num_rows=rows,
        dimension=dimension,
        metric=metric,
        normalized=normalized,
        encoder=encoder,
        side_info=side_info,
        transformation=None,
        index=index,
        shards=tuple(records),
        gate=None,
        run=run,
        keys=keys,
    ).with_format_version()


def adopted_manifest(
    *,
    version: int,
    created_at: str,
    encoder: EncoderRef,
    dimension: int,
    metric: Metric,
    normalized: bool,
    side_info: SideInfoRef | None,
    records: Sequence[ShardRecord],
    run: str,
    index: IndexRef | None = None,
    parent: int | None = None,
    adopted_from: str | None = None,
    keys: KeyType | None = None,
    layout: AdoptedLayout | None = None,
) -> Manifest:
    """The manifest that takes over Parquet objects where they lie, with or without an index.

    `adopted_from` is the directory below which they lie outside of the store (absolute URIs), `layout` how they are read.

    Raises:
        SettingsError: there are no shards or no rows, one object is listed twice, or an index is missing.
        IncompleteRunError: shard numbers are not 0 .. n - 1, each once.
    """
    ordered = sorted(records, key=lambda record: record.shard)
    rows = sum(record.rows for record in ordered)
    if rows == 0:
        raise SettingsError(
            f"{len(ordered)} shards with 0 rows to adopt, wanted at least one row: check the path of the embeddings"
        )
    times_of = Counter((record.embeddings.path, record.embeddings.rows) for record in ordered)
    doubled = [path for (path, _), times in times_of.items() if times > 1]
    if doubled:
        raise SettingsError(f"the same object would be two shards: {_named(doubled)}; give every file once")
    problems = _numbering_problems(ordered, list(range(len(ordered))))
    for record in ordered:
        problems += _index_problems(record, index=index)
    _raise_if_any(problems, run)
    return Manifest(
        version=version,
        parent=parent,
        created_at=created_at,
        num_rows=rows,
        dimension=dimension,
        metric=metric,
        normalized=normalized,
        encoder=encoder,
        side_info=side_info,
        transformation=None,
        index=index,
        shards=tuple(ordered),
        gate=None,
        run=run,
        adopted_from=() if adopted_from is None else (adopted_from,),
        keys=keys,
        adopted=layout,
    ).with_format_version()


def edited_manifest(
    parent: Manifest,
    *,
    version: int,
    created_at: str,
    receipts: Sequence[Receipt],
    written: Sequence[int],
    dropped: Collection[int],
    num_rows: int,
    run: str,
) -> Manifest:
    """The manifest of `parent` with some shards new or rewritten (`written`) and some taken out (`dropped`).

    All other shards stay where they lie, in directories of earlier versions; models and index are the parent's.

    Raises:
        IncompleteRunError: a written shard has no receipt, was made from other input, or the rows do not sum to
            `num_rows`.
    """
    records = _records_of(receipts, run)
    problems = _numbering_problems(records, list(written))
    before = {record.shard: record for record in parent.shards}
    for record in records:
        problems += _index_problems(record, index=parent.index)
        if record.shard in before and record.input_sha256 != before[record.shard].embeddings.sha256:
            problems.append(f"shard {record.shard} was not made from that of version {parent.version}")
    changed = {record.shard for record in records} | set(dropped)
    shards = sorted([r for r in parent.shards if r.shard not in changed] + records, key=lambda record: record.shard)
    rows, bad = sum(record.rows for record in shards), sum(record.quarantined for record in records)
    _raise_if_any(problems or _sum_problems(rows, bad, num_rows), run)
    has_adopted = any("://" in record.embeddings.path for record in shards)
    return dataclasses.replace(
        parent,
        version=version,
        parent=parent.version,
        created_at=created_at,
        num_rows=rows,
        shards=tuple(shards),
        adopted_from=parent.adopted_from if has_adopted else (),
        adopted=parent.adopted if has_adopted else None,
        run=run,
    ).with_format_version()


def _records_of(receipts: Sequence[Receipt], run: str) -> list[ShardRecord]:
    foreign = sorted({receipt.run for receipt in receipts} - {run})
    if foreign:
        raise IncompleteRunError(
            f"receipts of other runs ({_named(foreign)}) among those of {run}: read its own ledger"
        )
    return sorted((receipt.record for receipt in receipts), key=lambda record: record.shard)


def _numbering_problems(records: Sequence[ShardRecord], wanted: Sequence[int]) -> list[str]:
    times = Counter(record.shard for record in records)
    missing = [shard for shard in wanted if shard not in times]
    unknown = sorted(set(times) - set(wanted))
    doubled = sorted(shard for shard, count in times.items() if count > 1)
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(wanted)} shards have no receipt: {_named(missing)}")
    if unknown:
        problems.append(f"receipts for shards that the input does not have: {_named(unknown)}")
    if doubled:
        problems.append(f"more than one receipt for shards: {_named(doubled)}")
    return problems


def _differences(before: ShardRecord, after: ShardRecord, *, index: IndexRef | None) -> list[str]:
    """What an upgraded shard must share with its input, and does not."""
    problems = []
    if after.input_sha256 != before.embeddings.sha256:
        problems.append(
            f"shard {before.shard} was made from input {str(after.input_sha256)[:12]}, wanted "
            f"{before.embeddings.sha256[:12]}"
        )
    if after.rows + after.quarantined != before.rows:
        problems.append(f"shard {before.shard} has {_counted(after.rows, after.quarantined)}, wanted {before.rows:,}")
    if not after.quarantined and (after.id_min, after.id_max) != (before.id_min, before.id_max):
        problems.append(
            f"shard {before.shard} has ids {after.id_min} to {after.id_max}, wanted {before.id_min} to {before.id_max}"
        )
    return problems + _index_problems(after, index=index)


def _sum_problems(rows: int, bad: int, wanted: int) -> list[str]:
    """In = out + quarantined."""
    return [] if rows + bad == wanted else [f"all shards together have {_counted(rows, bad)}, wanted {wanted:,}"]


def _counted(rows: int, bad: int) -> str:
    return f"{rows:,} rows and {bad:,} quarantined" if bad else f"{rows:,} rows"


def _index_problems(record: ShardRecord, *, index: IndexRef | None) -> list[str]:
    problems = []
    if (record.index is None) != (index is None):
        problems.append(
            f"shard {record.shard} has {'no index' if record.index is None else 'an index'}, the version wants "
            f"{'none' if index is None else repr(index.factory)}"
        )
    if record.counts and sum(record.counts.values()) != record.rows:
        problems.append(f"shard {record.shard} counts {record.counts} do not sum to its {record.rows:,} rows")
    return problems


def _raise_if_any(problems: Sequence[str], run: str) -> None:
    if problems:
        raise IncompleteRunError(
            f"run {run} is not complete, nothing was published: {_named(problems, '; ')}. Run the same command again "
            f"to do what is missing"
        )


def _named(things: Sequence[object], separator: str = ", ") -> str:
    """The first few, and how many more."""
    shown = separator.join(str(thing) for thing in things[:_NUM_NAMED])
    more = len(things) - _NUM_NAMED
    return shown if more <= 0 else f"{shown}{separator}and {more} more"
