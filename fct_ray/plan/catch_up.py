"""Whether a run that started from one version may go on from another, because the gallery lived meanwhile.

    planned from v1 ──append──▶ v2 ──delete──▶ v3 = CURRENT       same space: go on from v3, redo the shards that differ
                    ──upgrade─▶ v2' = CURRENT                     another space: this run lost, nothing is overwritten

Owns: that decision, and the search for what a resumed run had started from. Knows no storage: reading a parent is an
argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fct_ray.errors import PublishConflictError
from fct_ray.values import Manifest

EDIT_RUNS = ("append-", "delete-")
"""How the ids of runs begin that append or delete items."""


def same_space(one: Manifest, other: Manifest) -> bool:
    """Whether both versions hold embeddings and side-information of the same models, so that one h serves both."""
    return _space(one) == _space(other)


def _space(version: Manifest) -> tuple[object, ...]:
    """What decides the numbers in a version's vectors; those of joined blocks also depend on the map that joined them."""
    joined_by = version.transformation if version.queries else None
    return version.encoder, version.side_info, version.dimension, version.metric, version.queries, joined_by


def check_catch_up(planned: Manifest, now: Manifest, run: str) -> None:
    """Refuse to go on from `now` what was planned from `planned`, if their vectors are of different models.

    Raises:
        PublishConflictError: another upgrade or backfill was published meanwhile.
    """
    if not same_space(planned, now):
        raise PublishConflictError(
            f"run {run} started from version {planned.version} (encoder {planned.encoder.name}), but version "
            f"{now.version} (encoder {now.encoder.name}, run {now.run}) was published while it worked. Nothing was "
            "overwritten; run again to start from what is published now, or roll back first"
        )


def is_edit(version: Manifest) -> bool:
    """Whether a version was made by appending or deleting items, so that its vectors are those of its parent."""
    return version.run.startswith(EDIT_RUNS)


def bases(manifest: Manifest, parent_of: Callable[[Manifest], Manifest | None]) -> Iterator[Manifest]:
    """`manifest`, then the versions it grew from by appending and deleting, newest first."""
    version: Manifest | None = manifest
    while version is not None and same_space(version, manifest):
        yield version
        version = parent_of(version)
