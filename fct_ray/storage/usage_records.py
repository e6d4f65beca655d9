"""The usage records of a run: `runs/<run id>/usage/<stage>-<part>.json`, one `Usage` each.

Owns: where they lie, writing one, reading those of a stage. Workers and the driver write them; nothing is ever added up
here (`workflows/run_usage` does).
"""

from __future__ import annotations

from fct_ray.storage import documents, objects
from fct_ray.storage.store import Store
from fct_ray.values import Usage


def write(store: Store, run: str, name: str, usage: Usage) -> None:
    """Write the record `name` of a run, e.g. "fit-0001", over an earlier one. Raises StoreError."""
    objects.write_bytes(store.run_uri(run, f"usage/{name}.json"), documents.dump(usage))


def write_part(store: Store, run: str, stage: str, part: str, usage: Usage) -> None:
    """Record work whose outcome stays: it counts once, whether the attempt that did it is killed or it is found again.

    To be written before the outcome is: work that a kill in between loses is done, and recorded, once more. Its wall and
    node time are the stage's, so they are left out. Raises StoreError.
    """
    write(store, run, f"{stage}-{part}", usage.replace(wall_s=0.0, node_s=0.0))


def uris(store: Store, run: str, stage: str) -> list[str]:
    """Where the records of a stage lie, sorted."""
    listed = objects.list_uris(store.run_uri(run, "usage/"))
    return [uri for uri in listed if uri.rsplit("/", 1)[-1].startswith(f"{stage}-")]


def read(uri: str) -> Usage:
    """One record. Raises NotFoundError, FormatError."""
    return documents.load(Usage, objects.read_bytes(uri), uri)
