"""Which shards can share an id, told from their smallest and largest ids alone.

Owns: arithmetic on id ranges. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from fct_ray.values import ShardRecord


def overlapping(records: Sequence[ShardRecord]) -> list[list[ShardRecord]]:
    """Groups of shards whose id ranges touch, directly or through others; shards that touch none are left out."""
    groups: list[list[ShardRecord]] = []
    highest = 0
    for record in sorted(records, key=lambda record: record.id_min):
        if groups and record.id_min <= highest:
            groups[-1].append(record)
            highest = max(highest, record.id_max)
        else:
            groups.append([record])
            highest = record.id_max
    return [group for group in groups if len(group) > 1]
