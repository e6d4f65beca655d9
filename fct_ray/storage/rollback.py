"""Moving CURRENT back to an earlier version: queries of that version's encoder are right again at once."""

from __future__ import annotations

from fct_ray.errors import NotFoundError, SettingsError
from fct_ray.storage import leases
from fct_ray.storage.store import Store
from fct_ray.values import Current


def roll_back(store: Store, version: int | None) -> Current:
    """Publish `version` again (None: the parent of CURRENT); nothing is deleted.

    Raises:
        NotFoundError: the store has no CURRENT, or the version is not complete.
        SettingsError: CURRENT has no parent to go back to.
        PublishConflictError: another run published meanwhile.
    """
    with leases.publishing(store, "rollback"):
        return _roll_back(store, version)


def _roll_back(store: Store, version: int | None) -> Current:
    current = store.current()
    if current is None:
        raise NotFoundError(f"{store.uri}: has no CURRENT.json, so there is nothing to roll back; make a version first")
    target = version if version is not None else store.manifest(current.version).parent
    if target is None:
        raise SettingsError(
            f"{store.uri}: version {current.version} is the first, it has no parent; name a --version of "
            f"{store.versions()}"
        )
    return store.move_current(target, expected=current)
