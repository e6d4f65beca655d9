"""Reading Parquet objects that somebody else wrote, once each, before a store refers to them or copies them.

    sizes, and footers of large objects -> portions -> facts about every future shard -> those that must be copied

Owns: that they are of one kind, which of them must be copied, and what a report says about them. How they are divided is
decided in `plan/portions`, which rows are usable in `storage/quarantine`; `shards/inspected_objects` reads one portion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.metering.meters import StageMeter
from fct_ray.plan.portions import SHARD_BYTES, Portion, is_large, portions
from fct_ray.plan.resume import shards_to_do
from fct_ray.shards.copied_shards import CopyTask, write_copies
from fct_ray.shards.edited_shard import EditJob
from fct_ray.shards.inspected_objects import Inspected, inspect_portion, row_groups_of
from fct_ray.storage import objects, parquet_parts
from fct_ray.values import ROW_NUMBERS, AdoptedLayout, Receipt, ShardRecord

SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedObjects:
    """What some objects hold, in the order of their names; there is at least one row."""

    with_rows: tuple[Inspected, ...]
    """Each future shard, numbered from 0 without a gap."""
    portions: tuple[tuple[Portion, tuple[int, ...]], ...]
    """What was read, and the positions in `with_rows` of the shards that it becomes."""
    empty_uris: tuple[str, ...]
    """Objects without any rows."""

    @property
    def ids_not_unit(self) -> tuple[str, tuple[int, ...]] | None:
        """The first object, and ids in it, with vectors of neither length 1 nor 0; None where all are normalized."""
        found = ((seen.record.embeddings.path, seen.ids_not_unit) for seen in self.with_rows if seen.ids_not_unit)
        return next(found, None)

    @property
    def keys(self) -> KeyType | None:
        """What the items are called by; None: by whole numbers, or by their position."""
        return self.with_rows[0].keys

    def by_position(self, layout: AdoptedLayout) -> bool:
        """Whether rows have no ids of their own, and are numbered."""
        return self.keys is not None or layout.id == ROW_NUMBERS

    def numbered(self, layout: AdoptedLayout, *, first_shard: int, first_id: int, by_hash: bool) -> InspectedObjects:
        """The same with shards from `first_shard` on, and ids from `first_id` on where rows have none of their own.

        All rows count, usable or not. `by_hash` numbers shards by their hashes, so that renaming files changes nothing.
        """
        order = list(range(len(self.with_rows)))
        if by_hash:
            order.sort(key=lambda at: self.with_rows[at].record.embeddings.sha256)
        numbered, start = list(self.with_rows), first_id
        for shard, at in enumerate(order, first_shard):
            seen = self.with_rows[at]
            stop = start + seen.num_rows
            record = replace(seen.record, shard=shard)
            if self.by_position(layout):
                record = replace(record, id_min=start, id_max=stop - 1)
            numbered[at] = replace(seen, record=record)
            start = stop
        return replace(self, with_rows=tuple(numbered))

    def copies(self, *, every: bool = False) -> list[tuple[Portion, list[ShardRecord]]]:
        """What cannot stay where it is (or all of it): portions, and the shards that they become."""
        found = [(portion, [self.with_rows[at] for at in positions]) for portion, positions in self.portions]
        return [
            (portion, [one.record for one in seen])
            for portion, seen in found
            if seen and (every or any(one.num_bad_rows or not one.in_place for one in seen))
        ]

    def notes(self, *, all_copied: bool = False) -> tuple[str, ...]:
        """What a report says about them; where all are copied in any case, nothing about copies."""
        copies = () if all_copied else tuple(self._about_copies())
        return tuple(note for note in (self._about_empty(), *copies, self._about_drift()) if note)

    def _about_empty(self) -> str:
        if not self.empty_uris:
            return ""
        more = ", ..." if len(self.empty_uris) > SHOWN else ""
        number = f"{len(self.empty_uris):,} object{'s' if len(self.empty_uris) > 1 else ''}"
        return f"skipped {number} without rows: {', '.join(self.empty_uris[:SHOWN])}{more}"

    def _about_copies(self) -> Iterable[str]:
        together = [len(portion.pieces) for portion, _ in self.portions if len(portion.pieces) > 1]
        if together:
            yield (
                f"{sum(together):,} small objects are copied into the store together (shards: {len(together):,}): each by "
                "itself would take longer to open than to read"
            )
        cut = [(portion, positions) for portion, positions in self.portions if portion.rows_per_shard is not None]
        if cut:
            uri, rows = cut[0][0].pieces[0].uri, cut[0][0].rows_per_shard or 1
            yield (
                f"row groups that are too large for one shard are copied into the store in slices (row groups: {len(cut):,}, "
                f"shards: {sum(len(at) for _, at in cut):,}). To adopt them in place, write smaller ones first: "
                f"{parquet_parts.rewriting(uri, rows)}"
            )

    def _about_drift(self) -> str:
        types: dict[str, list[str]] = {}
        for seen in self.with_rows:
            for name, kind in seen.carried:
                types.setdefault(name, []).append(kind)
        drifting = {
            name: ", ".join(sorted(set(kinds))) + ("" if len(kinds) >= len(self.with_rows) else ", not in all")
            for name, kinds in types.items()
            if len(set(kinds)) > 1 or len(kinds) < len(self.with_rows)
        }
        if not drifting:
            return ""
        said = "; ".join(f"{name} ({kinds})" for name, kinds in list(drifting.items())[:SHOWN])
        more = "; ..." if len(drifting) > SHOWN else ""
        return f"carried columns differ between files, and each shard keeps those of its own: {said}{more}"


def inspect_objects(
    uris: Sequence[str],
    layout: AdoptedLayout,
    on_bad_row: OnBadRow,
    meter: StageMeter | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> InspectedObjects:
    """Read every object in Ray tasks; `meter` counts the work, but no rows of objects that will be copied.

    Raises:
        FormatError: an object is unreadable or lacks columns, none has rows, or dimensions differ between objects.
        DataError: NaN or infinite values, null or repeated ids, with `OnBadRow.REFUSE`; names the row.
    """
    chosen = _portions(uris, shard_bytes)
    found: dict[int, list[Inspected]] = {}
    for position, seen in map_tasks(
        inspect_portion, chosen, layout, on_bad_row, describe="read and check", name=lambda one: one.pieces[0].uri
    ):
        found[position] = seen
        for one in seen:
            if meter is None:
                break
            meter.add(one.usage.replace(rows=0) if one.num_bad_rows or not one.in_place else one.usage)
    with_rows: list[Inspected] = []
    of_portions = []
    for position, portion in enumerate(chosen):
        first = len(with_rows)
        with_rows += [
            replace(one, record=replace(one.record, shard=first + at)) for at, one in enumerate(found[position])
        ]
        of_portions.append((portion, tuple(range(first, len(with_rows)))))
    inspected = InspectedObjects(
        with_rows=tuple(with_rows),
        portions=tuple((portion, positions) for portion, positions in of_portions if positions),
        empty_uris=tuple(piece.uri for portion, positions in of_portions if not positions for piece in portion.pieces),
    )
    if not inspected.with_rows:
        raise FormatError(f"{uris[0]}: has no rows, nor has any of the {len(uris):,} objects; want at least one row")
    _check_same(inspected.with_rows)
    return inspected


def copy_into_store(
    copies: Sequence[tuple[Portion, Sequence[ShardRecord]]], job: EditJob, receipts: Sequence[Receipt]
) -> None:
    """Write the shards that these portions become, but those that a receipt proves to be finished.

    Raises:
        DataError: too many bad rows; FormatError: objects cannot be put together, or were replaced.
    """
    todo = frozenset(one.shard for _, records in copies for one in shards_to_do(records, receipts))
    tasks = [
        CopyTask(portion=portion, records=tuple(records), todo=todo & {one.shard for one in records})
        for portion, records in copies
        if todo & {one.shard for one in records}
    ]
    for _ in map_tasks(
        write_copies, tasks, job, describe="copy into the store", name=lambda task: f"shard {task.records[0].shard}"
    ):
        pass


def _portions(uris: Sequence[str], shard_bytes: int) -> list[Portion]:
    sizes = dict(zip(uris, objects.sizes(uris), strict=True))
    large = [uri for uri in uris if is_large(sizes[uri], shard_bytes)]
    groups = {
        large[position]: found for position, found in map_tasks(row_groups_of, large, describe="read footers", name=str)
    }
    return portions(sizes, groups, shard_bytes)


def _check_same(inspected_all: Sequence[Inspected]) -> None:
    """Refuse objects whose dimensions, side-information or kind of ids differ from the first one's."""
    first = inspected_all[0]
    for other in inspected_all:
        seen = (other.dimension, other.side_dimension, other.side_dtype)
        wanted = (first.dimension, first.side_dimension, first.side_dtype)
        if seen != wanted:
            raise FormatError(
                f"{other.record.embeddings.path}: (dimension, side dimension, side dtype) is {seen}; want {wanted} as in "
                f"{first.record.embeddings.path}: one store holds one kind of embedding"
            )
        if other.keys is not first.keys:
            raise FormatError(
                f"{other.record.embeddings.path}: its ids are {other.keys or 'whole numbers'}; want "
                f"{first.keys or 'whole numbers'} as in {first.record.embeddings.path}: write all files with ids of one type"
            )
