"""Deleting what a store no longer needs, while others read and write it.

    publish lease         nobody moves CURRENT until the collection has ended
      -> list objects     only what is in this listing is ever deleted
      -> read claims, manifests, leases, in this order
      -> decide           (plan/collection)
      -> manifests go     and come back if a reader pinned the version meanwhile, or the publish lease was lost
      -> objects go       run by run, each under that run's own lease

Why nothing goes that anybody needs, whatever happens between any two steps. A run takes its lease before its claim, and its
claim before it writes: so a run with an object in the listing has its claim read, and either holds its lease, and its
objects stay, or had ended. It may begin again after that: then it waits for its lease, or has it, and its objects stay.
And what it had published before its objects are deleted, it published before the listing, for nobody publishes since.
A reader pins a version before it reads the manifest: it keeps the version, or finds no such version.

Owns: that order. Interrupted, it leaves objects that nothing refers to; the next collection finds them. Of a run's objects
those go first that name others (receipts, models' documents), so that a run that begins again does not rely on what is gone.
What an interrupted run spent stays in its usage records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fct_ray.errors import LeaseHeldError, NotFoundError
from fct_ray.plan.collection import TRUE_VECTORS, Collected, collection, deletion_order, owner_of
from fct_ray.storage import leases, objects, usage_records
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, Usage

logger = logging.getLogger(__name__)
_DIRECTORIES = ("versions", "runs", "leases")


class Step(StrEnum):
    """Moments of a collection at which other processes may do anything."""

    LISTED = "objects are listed, leases are not read yet"
    DECIDED = "what goes is decided, nothing has gone yet"
    MANIFESTS_GONE = "manifests have gone, leases are not read again yet"
    RUN_BEGINS = "the objects of one more run are about to go"
    DOCUMENTS_GONE = "the receipts and documents of a run have gone, its other objects have not"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    """A store as it was seen, read in the order of these fields."""

    paths: Sequence[str]
    litter: Sequence[str]
    claims: Mapping[int, str]
    manifests: Mapping[int, Manifest]
    current: int


def find_garbage(store: Store, *, keep: int, purge: bool) -> Collected:
    """What a collection would keep and delete; watches leases of other machines for up to their `ttl_s` seconds.

    Raises:
        NotFoundError: nothing is published, so there is nothing to protect: no collection without CURRENT.
    """
    return _decide(store, _list(store), keep=keep, purge=purge)


def collect(store: Store, *, keep: int, purge: bool, meanwhile: Callable[[Step], None] | None = None) -> Collected:
    """Delete what `find_garbage` finds; returns what went. Nobody can publish or roll back meanwhile.

    `meanwhile` is called at every step: what it does there is what another process could do.

    Raises:
        LeaseHeldError: somebody is publishing and did not end, or this process was suspended and lost its lease.
        NotFoundError: nothing is published.
    """
    at = (lambda _: None) if meanwhile is None else meanwhile
    with leases.publishing(store, leases.COLLECTING) as publishing:
        listing = _list(store)
        at(Step.LISTED)
        found = _decide(store, listing, keep=keep, purge=purge)
        at(Step.DECIDED)
        publishing.confirm()
        if _delete_manifests(store, found.versions, publishing, at):
            found = _decide(store, listing, keep=keep, purge=purge)
        busy = {
            run
            for run in _owners(found, listing.claims)
            if not _delete_of_run(store, run, found, listing, publishing, at)
        }
    return replace(found, paths=tuple(path for path in found.paths if owner_of(path, listing.claims) not in busy))


def _list(store: Store) -> _Listing:
    if store.current() is None:
        raise NotFoundError(f"{store.uri}: has no CURRENT.json; want a store in which something is published")
    paths = [path for name in _DIRECTORIES for path in store.paths_below(name)]
    paths += [path for path in store.paths_below("models") if path.endswith(TRUE_VECTORS)]
    litter = [path for name in _DIRECTORIES for path in store.litter_below(name)]
    claims = {number: claim.run for number, claim in store.claims().items()}
    manifests = {manifest.version: manifest for manifest in store.history()}
    current, newest = store.pinned()
    manifests[current.version] = newest
    return _Listing(paths=paths, litter=litter, claims=claims, manifests=manifests, current=current.version)


def _decide(store: Store, listing: _Listing, *, keep: int, purge: bool) -> Collected:
    living = leases.live_leases(store)
    return collection(
        listing.manifests,
        current=listing.current,
        keep=keep,
        purge=purge,
        pinned={number: lease.purpose for lease in living.values() for number in lease.versions},
        live=set(living),
        claims=listing.claims,
        litter=listing.litter,
        paths=listing.paths,
    )


def _delete_manifests(store: Store, versions: Sequence[int], publishing: Lease, at: Callable[[Step], None]) -> set[int]:
    """Delete manifests, but those of versions that were pinned meanwhile; returns these."""
    uris = {version: store.uri_of(store.manifest_path(version)) for version in versions}
    contents = {version: objects.read_bytes(uri) for version, uri in uris.items()}
    objects.delete(list(uris.values()))
    kept = set(uris)
    try:
        at(Step.MANIFESTS_GONE)
        if not uris:
            return kept
        needed = {number for lease in leases.live_leases(store).values() for number in lease.versions}
        publishing.confirm()
        kept &= needed
    finally:
        for version in kept:
            logger.info("the manifest of version %d stays", version)
            objects.create(uris[version], contents[version])
    return kept


def _owners(found: Collected, claims: Mapping[int, str]) -> list[str | None]:
    """The runs that wrote what goes; None for what no run can write again."""
    return sorted({owner_of(path, claims) for path in (*found.paths, *found.litter_in)}, key=str)


def _delete_of_run(
    store: Store,
    run: str | None,
    found: Collected,
    listing: _Listing,
    publishing: Lease,
    at: Callable[[Step], None],
) -> bool:
    """Delete what goes of one run while nobody can do that run; False if somebody does it."""
    at(Step.RUN_BEGINS)
    paths = [path for path in found.paths if owner_of(path, listing.claims) == run]
    if run is None:
        objects.delete([store.uri_of(path) for path in paths])
        return True
    try:
        lease = leases.take(store, run, leases.COLLECTING)
    except LeaseHeldError as error:
        logger.info("what run %s left stays: %s", run, error)
        return False
    with lease:
        if run not in {manifest.run for manifest in listing.manifests.values()}:
            _record_lost_work(store, run, paths, listing.claims)
        for part in deletion_order(paths):
            publishing.confirm()
            lease.confirm()
            objects.delete([store.uri_of(path) for path in part])
            at(Step.DOCUMENTS_GONE)
        for path in found.litter_in:
            if owner_of(path, listing.claims) == run:
                objects.delete_litter(store.uri_of(path))
    return True


def _record_lost_work(store: Store, run: str, paths: Sequence[str], claims: Mapping[int, str]) -> None:
    """Keep what finished shards took: if the run is done after all, its report counts the work that was done twice."""
    for version in sorted(number for number, owner in claims.items() if owner == run):
        if any(path.startswith(f"{store.version_path(version)}/receipts/") for path in paths):
            receipts = (receipt for receipt in store.receipts(version) if receipt.run == run)
            usage_records.write_collected(store, run, version, sum((receipt.usage for receipt in receipts), Usage()))
