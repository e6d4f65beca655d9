"""The usage records of a run: `runs/<run id>/usage/<stage>-<part>.json`, one `Usage` each.

Owns: where they lie, writing one, reading those of a stage. Workers and the driver write them; nothing is ever added up
here (`workflows/run_usage` does).
"""

from __future__ import annotations

import math
from dataclasses import fields

from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store
from fct_ray.values import Usage


def write(store: Store, run: str, name: str, usage: Usage) -> None:
    """Write the record `name` of a run, e.g. "fit-0001", over an earlier one. Raises StoreError."""
    objects.write_bytes(store.run_uri(run, f"usage/{name}.json"), documents.dump(usage))


def write_part(store: Store, run: str, stage: str, part: str, usage: Usage) -> None:
    """Record work whose outcome stays: it counts once, whether the attempt that did it is killed or it is found again.

    To be written before the outcome is. Where the outcome was lost (by a kill in between, or by a garbage collection) the
    work is done once more: its record is another one, and both count. Wall and node time are the stage's, so they are left
    out. Raises StoreError.
    """
    name, usage = f"{stage}-{part}", usage.replace(wall_s=0.0, node_s=0.0)
    uri = store.run_uri(run, f"usage/{name}.json")
    before = read(uri) if objects.exists(uri) else usage
    if not _equal(before, usage):
        write(store, run, f"{name}-{documents.sha256_hex(documents.dump(before))[:8]}", before)
    write(store, run, name, usage)


def write_collected(store: Store, run: str, version: int, usage: Usage) -> None:
    """Record the stream's work whose receipts are about to be deleted from a version's directory; the first record stands.

    So a collection that is interrupted and repeated, and finds fewer receipts then, leaves it as it is. Raises StoreError.
    """
    uri = store.run_uri(run, f"usage/stream-collected-{version:06d}.json")
    objects.create(uri, documents.dump(usage.replace(wall_s=0.0, node_s=0.0)))


def uris(store: Store, run: str, stage: str) -> list[str]:
    """Where the records of a stage lie, sorted."""
    listed = objects.list_uris(store.run_uri(run, "usage/"))
    return [uri for uri in listed if uri.rsplit("/", 1)[-1].startswith(f"{stage}-")]


def read(uri: str) -> Usage:
    """One record. Raises NotFoundError, FormatError."""
    return documents.load(Usage, objects.read_bytes(uri), uri)


def _equal(one: Usage, other: Usage) -> bool:
    """Equal but for the last bits of sums that were added in another order."""
    return all(math.isclose(getattr(one, field.name), getattr(other, field.name)) for field in fields(Usage))
