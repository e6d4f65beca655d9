"""Look at a store, and move it back: what is published, its versions, and rolling back to one of them.

Examples:
    python jobs/store.py status --store S
    python jobs/store.py history --store S
    python jobs/store.py rollback --store S [--version N]
"""

from dataclasses import dataclass

from fct_ray.command_line import run_job
from fct_ray.report.versions import print_history, print_status
from fct_ray.storage.rollback import roll_back
from fct_ray.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Look:
    """Look at a store."""

    store: str
    """The store: a directory or s3:// prefix."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """Point CURRENT at an earlier version; nothing is deleted, and rolling forward is the same command."""

    store: str
    """The store: a directory or s3:// prefix."""
    version: int | None = None
    """The version to publish again. None: the parent of CURRENT."""


def status(settings: Look) -> None:
    """What is published."""
    print_status(Store(settings.store).manifest(), settings.store)


def history(settings: Look) -> None:
    """All complete versions."""
    store = Store(settings.store)
    print_history(store.history(), store.current())


def rollback(settings: Rollback) -> None:
    """Move CURRENT."""
    store = Store(settings.store)
    roll_back(store, settings.version)
    print_status(store.manifest(), settings.store)


if __name__ == "__main__":
    run_job({"status": (Look, status), "history": (Look, history), "rollback": (Rollback, rollback)}, __doc__ or "")
