"""Reading Parquet objects that somebody else wrote, once each, before a store refers to them or copies them.

Owns: that they are of one kind, and that those without any rows are skipped and named. `storage/quarantine` decides
which rows are usable, `shards/stored_rows` reads one object.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import FormatError
from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import StageMeter
from fct_ray.shards.stored_rows import Inspected, inspect_shard

logger = logging.getLogger(__name__)
SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedObjects:
    """What some objects hold, in the order of their names; there is at least one."""

    with_rows: tuple[Inspected, ...]
    """Numbered from 0 without a gap."""
    empty_uris: tuple[str, ...]
    """Objects without any rows."""

    @property
    def ids_not_unit(self) -> tuple[str, tuple[int, ...]] | None:
        """The first object, and ids in it, with vectors of neither length 1 nor 0; None where all are normalized."""
        found = ((seen.record.embeddings.path, seen.ids_not_unit) for seen in self.with_rows if seen.ids_not_unit)
        return next(found, None)

    def notes(self) -> tuple[str, ...]:
        """What a report says about them."""
        if not self.empty_uris:
            return ()
        more = ", ..." if len(self.empty_uris) > SHOWN else ""
        number = f"{len(self.empty_uris):,} object{'s' if len(self.empty_uris) > 1 else ''}"
        return (f"skipped {number} without rows: {', '.join(self.empty_uris[:SHOWN])}{more}",)


def inspect_objects(uris: Sequence[str], on_bad_row: OnBadRow, meter: StageMeter | None = None) -> InspectedObjects:
    """Read every object in a Ray task; `meter` counts the work, but no rows of objects that will be copied.

    Raises:
        FormatError: an object is unreadable or lacks columns, none has rows, or dimensions differ between objects.
        DataError: NaN or infinite values, null or repeated ids, with `OnBadRow.REFUSE`; names the row.
    """
    tasks = [(shard, uri, on_bad_row) for shard, uri in enumerate(uris)]
    found: dict[int, Inspected | None] = {}
    for position, seen in map_tasks(inspect_shard, tasks, describe="read and check", name=lambda task: task[1]):
        found[position] = seen
        if meter is not None and seen is not None:
            meter.add(seen.usage.replace(rows=0) if seen.num_bad_rows else seen.usage)
    in_order = [found[position] for position in range(len(uris))]
    inspected = InspectedObjects(
        with_rows=tuple(
            replace(seen, record=replace(seen.record, shard=shard))
            for shard, seen in enumerate(seen for seen in in_order if seen is not None)
        ),
        empty_uris=tuple(uri for uri, seen in zip(uris, in_order, strict=True) if seen is None),
    )
    if not inspected.with_rows:
        raise FormatError(f"{uris[0]}: has no rows, nor has any of the {len(uris):,} objects; want at least one row")
    for note in inspected.notes():
        logger.warning("%s", note)
    _check_same(inspected.with_rows)
    return inspected


def _check_same(inspected_all: Sequence[Inspected]) -> None:
    """Refuse objects whose dimensions or side-information differ from the first one's."""
    first = inspected_all[0]
    for other in inspected_all:
        seen = (other.dimension, other.side_dimension, other.side_dtype)
        wanted = (first.dimension, first.side_dimension, first.side_dtype)
        if seen != wanted:
            raise FormatError(
                f"{other.record.embeddings.path}: (dimension, side dimension, side dtype) is {seen}; want {wanted} as in "
                f"{first.record.embeddings.path}: one store holds one kind of embedding"
            )
