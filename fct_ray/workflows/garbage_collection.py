"""Deleting what a store no longer needs, while others read and write it.

Owns: the order that makes it safe. Under the publish lease nobody moves CURRENT; the manifests go first, then leases are
read once more, so that a reader who pinned a version before its manifest went keeps it, and one who comes later finds no
such version. Objects go last. Interrupted, it leaves objects that nothing refers to; the next collection finds them.
"""

from __future__ import annotations

import logging

from fct_ray.errors import NotFoundError
from fct_ray.plan.collection import Collected, collection
from fct_ray.storage import leases, objects
from fct_ray.storage.store import Store

logger = logging.getLogger(__name__)


def find_garbage(store: Store, *, keep: int, purge: bool) -> Collected:
    """What a collection would keep and delete; watches leases of other machines for up to their `ttl_s` seconds.

    Raises:
        NotFoundError: nothing is published, so there is nothing to protect: no collection without CURRENT.
    """
    current = store.current()
    if current is None:
        raise NotFoundError(f"{store.uri}: has no CURRENT.json; want a store in which something is published")
    living = leases.live_leases(store)
    return collection(
        {manifest.version: manifest for manifest in store.history()},
        current=current.version,
        keep=keep,
        purge=purge,
        pinned={number: lease.purpose for lease in living.values() for number in lease.versions},
        live=set(living),
        claims={number: claim.run for number, claim in store.claims().items()},
        runs=store.runs(),
        paths=[path for name in ("versions", "runs", "leases") for path in store.paths_below(name)],
    )


def collect(store: Store, *, keep: int, purge: bool) -> Collected:
    """Delete what `find_garbage` finds; returns what went. Nobody can publish or roll back while manifests go.

    Raises:
        LeaseHeldError: somebody is publishing and did not end.
        NotFoundError: nothing is published.
    """
    with leases.publishing(store, "gc"):
        found = find_garbage(store, keep=keep, purge=purge)
        manifests = {version: store.uri_of(store.manifest_path(version)) for version in found.versions}
        contents = {version: objects.read_bytes(uri) for version, uri in manifests.items()}
        objects.delete(list(manifests.values()))
        needed = {number for lease in leases.live_leases(store).values() for number in lease.versions}
        for version in needed & set(manifests):
            logger.info("version %d was opened meanwhile and stays", version)
            objects.create(manifests[version], contents[version])
        if needed & set(manifests):
            found = find_garbage(store, keep=keep, purge=purge)
    objects.delete([store.uri_of(path) for path in found.paths])
    for path in found.litter_in:
        objects.delete_litter(store.uri_of(path))
    return found
