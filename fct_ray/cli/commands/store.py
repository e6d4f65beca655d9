"""Look at a store, check it, move it back, and delete what it no longer needs.

Examples:
    python jobs/store.py status --store S
    python jobs/store.py history --store S
    python jobs/store.py verify --store S [--version N] [--share 0.1]
    python jobs/store.py rollback --store S [--version N]
    python jobs/store.py gc --store S --keep 2 [--no-dry-run]
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.cli.version_tables import print_collected, print_history, print_problems, print_status
from fct_ray.engine.cluster import connected
from fct_ray.errors import FormatError
from fct_ray.report.outcomes import verify_report
from fct_ray.settings import CheckedSettings, Count, CountOrZero
from fct_ray.storage.rollback import roll_back
from fct_ray.storage.store import Store
from fct_ray.workflows.garbage_collection import collect, find_garbage
from fct_ray.workflows.verify import VerifySettings, verify_store


@dataclass(frozen=True, kw_only=True)
class Look(CheckedSettings):
    """Look at a store."""

    store: str
    """The store: a directory or s3:// prefix."""


@dataclass(frozen=True, kw_only=True)
class Rollback(CheckedSettings):
    """Point CURRENT at an earlier version; nothing is deleted, and rolling forward is the same command."""

    store: str
    """The store: a directory or s3:// prefix."""
    version: Count | None = None
    """The version to publish again. None: the parent of CURRENT."""


@dataclass(frozen=True, kw_only=True)
class Verify(JobSettings, VerifySettings):
    """Check a version: hashes, rows, ids, indexes, vectors; lists every problem and exits with 2 if there is one."""


@dataclass(frozen=True, kw_only=True)
class Collect(CheckedSettings):
    """Delete old versions, what interrupted runs left, and runs' copies of items; shows only, unless --no-dry-run.

    CURRENT, its parent and versions that a living process uses always stay. Work of interrupted runs goes: resume them
    first, or they start anew.
    """

    store: str
    """The store: a directory or s3:// prefix."""
    keep: CountOrZero = 3
    """How many of the newest versions stay."""
    purge_deleted: bool = False
    """Versions that still hold items which were deleted since go too, also the parent of CURRENT."""
    dry_run: bool = True
    """Only show what would be deleted."""


def status(settings: Look) -> None:
    """What is published."""
    print_status(Store(settings.store).manifest(), settings.store)


def history(settings: Look) -> None:
    """All complete versions."""
    store = Store(settings.store)
    print_history(store.history(), store.current())


def verify(settings: Verify) -> None:
    """Check a version."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster):
        verified = verify_store(settings)
    print_problems(verified.problems)
    finish(verify_report(verified, settings, pricing), settings.report_dir)
    if verified.problems:
        raise FormatError(f"{settings.store}: {len(verified.problems)} problems; the first: {verified.problems[0]}")


def rollback(settings: Rollback) -> None:
    """Move CURRENT."""
    store = Store(settings.store)
    roll_back(store, settings.version)
    print_status(store.manifest(), settings.store)


def gc(settings: Collect) -> None:
    """Collect garbage."""
    work = find_garbage if settings.dry_run else collect
    found = work(Store(settings.store), keep=settings.keep, purge=settings.purge_deleted)
    print_collected(found, dry_run=settings.dry_run)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line (None: this process's own) and run."""
    run_job(
        {
            "status": (Look, status),
            "history": (Look, history),
            "verify": (Verify, verify),
            "rollback": (Rollback, rollback),
            "gc": (Collect, gc),
        },
        __doc__ or "",
        argv,
    )
