"""Look at a store, check it, move it back, and delete what it no longer needs.

Examples:
    fct-ray store status --store S
    fct-ray store history --store S
    fct-ray store verify --store S [--version N] [--share 0.1]
    fct-ray store rollback --store S [--version N]
    fct-ray store gc --store S --keep 2 [--no-dry-run]
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.cli.command_line import run_job
from fct_ray.cli.finish import Finished, finish
from fct_ray.cli.job_settings import JobSettings
from fct_ray.cli.pricing import pricing_of
from fct_ray.cli.version_tables import (
    collected_document,
    print_collected,
    print_history,
    print_problems,
    print_status,
    version_document,
)
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


def status(settings: Look) -> Finished:
    """What is published."""
    return _status(Store(settings.store))


def history(settings: Look) -> Finished:
    """All complete versions."""
    store = Store(settings.store)
    versions, current = store.history(), store.current()
    print_history(versions, current)
    return Finished(
        document={
            "store": store.uri,
            "current": None if current is None else current.version,
            "versions": [version_document(version) for version in versions],
        }
    )


def verify(settings: Verify) -> Finished:
    """Check a version."""
    pricing = pricing_of(settings.pricing)
    with connected(settings.cluster):
        verified = verify_store(settings)
    print_problems(verified.problems)
    found = verified.problems
    refusal = FormatError(f"{settings.store}: {len(found)} problems; the first: {found[0]}") if found else None
    return finish(verify_report(verified, settings, pricing), settings.report_dir, refusal=refusal)


def rollback(settings: Rollback) -> Finished:
    """Move CURRENT."""
    store = Store(settings.store)
    roll_back(store, settings.version)
    return _status(store)


def _status(store: Store) -> Finished:
    manifest = store.manifest()
    print_status(manifest, store.uri)
    return Finished(document={"store": store.uri, **version_document(manifest)})


def gc(settings: Collect) -> Finished:
    """Collect garbage."""
    work = find_garbage if settings.dry_run else collect
    found = work(Store(settings.store), keep=settings.keep, purge=settings.purge_deleted)
    print_collected(found, dry_run=settings.dry_run)
    return Finished(document=collected_document(found, settings.store, dry_run=settings.dry_run))


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
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
        program,
    )
