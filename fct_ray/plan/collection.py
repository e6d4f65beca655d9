"""What may be deleted from a store: a pure decision over its manifests, claims, leases and a listing.

    kept      CURRENT, its parent, the newest `keep`, whatever a living process has pinned, and all objects these refer to
    deleted   every other version, objects that nothing refers to, what interrupted runs left, and runs' copies of items;
              in a purge also true vectors beside models (`models/*/true_vectors.parquet`) that may be of deleted items

Owns: that decision, and which versions still hold deleted rows. Knows no storage. Paths are relative to the store's root.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fct_ray.plan.catch_up import is_edit
from fct_ray.plan.integrity import referenced
from fct_ray.values import Manifest

DELETE_RUN, READER = "delete-", "reader-"
"""How the runs that delete items, and the leases of readers, are called."""
KEPT_OF_RUNS = ("usage/", "report/", "gate.json")
"""What stays of every run: figures and verdicts. Pairs, checkpoints and fitted candidates hold, or know, single items."""
TRUE_VECTORS = "/true_vectors.parquet"
"""How the paths of vectors of single items end that lie beside models."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What a collection keeps and deletes."""

    kept: Mapping[int, str]
    """Versions that stay, and why."""
    versions: tuple[int, ...]
    """Complete versions that go."""
    paths: tuple[str, ...]
    """Objects that go; those of `versions` among them."""
    litter_in: tuple[str, ...]
    """Directories of runs that ended, with temporary files and unfinished uploads, which go."""
    holding_deleted: tuple[int, ...]
    """Versions that stay although they hold items that CURRENT has deleted."""


def collection(
    manifests: Mapping[int, Manifest],
    *,
    current: int,
    keep: int,
    purge: bool,
    pinned: Mapping[int, str],
    live: Collection[str],
    claims: Mapping[int, str],
    litter: Iterable[str],
    paths: Iterable[str],
) -> Collected:
    """Decide what to delete.

    `pinned` are versions that living processes need (and what for), `live` the names of all living leases (a run's is its
    id), `claims` which run claimed which version number, `litter` and `paths` all unfinished writes and all objects below
    `versions/`, `runs/` and `leases/`, and the files of true vectors below `models/`.

    With `purge` versions go, also the parent of CURRENT, that hold items which were deleted on the way to CURRENT: rolling
    back to them would bring the items back.
    """
    stale = holding_deleted(manifests, current)
    kept = {current: "CURRENT"}
    parent, newest = manifests[current].parent, sorted(manifests, reverse=True)[: max(keep, 0)]
    for number in sorted(manifests, reverse=True):
        if number in stale and purge:
            continue
        if number == parent:
            kept.setdefault(number, "parent of CURRENT")
        elif number in newest:
            kept.setdefault(number, f"one of the newest {keep}")
    for number, purpose in pinned.items():
        if number in manifests:
            kept.setdefault(number, f"in use by {purpose}")
    wanted = {path for number in kept for path in _paths_of(manifests[number])}
    wanted |= {path for path in paths if path.startswith("models/")} if not purge else set()
    wanted |= _claims_of_runs({manifests[number].run for number in kept}, claims)
    models = _models_of_no_deleted_item([manifests[number] for number in kept], claims)
    gone = tuple(path for path in paths if path not in wanted and not _stays(path, live, claims, models))
    return Collected(
        kept=kept,
        versions=tuple(sorted(set(manifests) - set(kept))),
        paths=gone,
        litter_in=tuple(
            sorted({"/".join(path.split("/", 2)[:2]) for path in litter if _is_abandoned(path, live, claims)})
        ),
        holding_deleted=tuple(sorted(stale & set(kept))),
    )


def owner_of(path: str, claims: Mapping[int, str]) -> str | None:
    """The run that may write an object, or in a directory, of `runs/` or `versions/`; None if no run may."""
    kind, name = path.split("/", 2)[:2]
    if kind == "runs":
        return name
    return claims.get(int(name)) if kind == "versions" and name.isdigit() else None


def deletion_order(paths: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """A run's objects in the parts in which they go: documents (receipts, models' descriptions), data, claims.

    Documents name data. Interrupted after any part, the run can begin again: what no document names is made again, and
    while a claim is there nobody else writes in the same directory.
    """
    documents, data, claims = list[str](), list[str](), list[str]()
    for path in paths:
        is_claim = path.startswith("versions/") and path.split("/")[2:] == ["run.json"]
        (claims if is_claim else documents if path.endswith(".json") else data).append(path)
    return tuple(tuple(part) for part in (documents, data, claims) if part)


def holding_deleted(manifests: Mapping[int, Manifest], current: int) -> set[int]:
    """Versions that hold, or may hold, items that were deleted on the way to CURRENT.

    A version is free of them if every known deletion in CURRENT's past is in its own past too. Where CURRENT's past is
    not known to its beginning, because it was collected, older versions count as holding deleted items.
    """
    past = _past(manifests, current)
    deletions = {number for number in past if manifests[number].run.startswith(DELETE_RUN)}
    cut = manifests[min(past)].parent is not None
    return {
        number
        for number in manifests
        if number != current and (not deletions <= _past(manifests, number) or (cut and number < min(past)))
    }


def _past(manifests: Mapping[int, Manifest], version: int) -> set[int]:
    """The version and its known ancestors."""
    past: set[int] = set()
    number: int | None = version
    while number is not None and number in manifests:
        past.add(number)
        number = manifests[number].parent
    return past


def _paths_of(manifest: Manifest) -> set[str]:
    """Every object that a version needs, with their receipts, and the claims of the directories where they lie."""
    objects = {ref.path for ref in referenced(manifest) if "://" not in ref.path}
    receipts = {path.replace("/shards/", "/receipts/").removesuffix(".parquet") + ".json" for path in objects}
    claims = {f"{path.rsplit('/', 2)[0]}/run.json" for path in objects}
    own = {f"versions/{manifest.version:06d}/{name}" for name in ("manifest.json", "run.json")}
    return objects | receipts | claims | own


def _claims_of_runs(runs: Collection[str], claims: Mapping[int, str]) -> set[str]:
    """Every claim of these runs, also of numbers under which nothing of theirs lies: they tell who caught up with edits."""
    return {f"versions/{number:06d}/run.json" for number, run in claims.items() if run in runs}


def _models_of_no_deleted_item(kept: Iterable[Manifest], claims: Mapping[int, str]) -> set[str]:
    """How the directories of models end whose true vectors are of no deleted item: 12 digits of their fingerprints.

    They are those of versions that stay as upgrades published them. Where only a version stays that grew from such a one, or
    the upgrade caught up with edits (it claimed a number anew), items may have been deleted since the vectors were made.
    """
    runs = list(claims.values())
    return {
        manifest.transformation.fingerprint[:12]
        for manifest in kept
        if manifest.transformation is not None and not is_edit(manifest) and runs.count(manifest.run) <= 1
    }


def _stays(path: str, live: Collection[str], claims: Mapping[int, str], models: Collection[str]) -> bool:
    """Whether an object that no kept version needs stays: a living process works on it, or it is a record of a run."""
    kind, name, *rest = path.split("/", 2)
    if kind == "models":
        return name.rpartition("-")[2] in models
    if kind == "leases":
        return not name.startswith(READER) or name.removesuffix(".json") in live
    if kind == "runs":
        return name in live or "".join(rest).startswith(KEPT_OF_RUNS)
    return name.isdigit() and claims.get(int(name)) in live


def _is_abandoned(path: str, live: Collection[str], claims: Mapping[int, str]) -> bool:
    owner = owner_of(path, claims)
    return owner is not None and owner not in live
