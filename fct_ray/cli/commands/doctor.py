"""Look at a gallery before anything is done with it: what it holds, what an upgrade will make of that, what to run next.

Examples:
    fct-ray doctor "s3://bucket/vectors/*.parquet"
    fct-ray doctor vectors/ --columns.id doc_id --full --fail-on warning
    fct-ray doctor shop --json --html shop.html

Nothing is written but the page, and no cluster is started. A gallery of more than --sample-bytes is read in part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import tyro

from fct_ray.cli.command_line import run_job
from fct_ray.cli.diagnosis_console import print_diagnosis
from fct_ray.cli.finish import Finished
from fct_ray.errors import DataError, FctRayError
from fct_ray.gallery_facts import Diagnosis, Level
from fct_ray.report.diagnosis_page import render_diagnosis
from fct_ray.report.environment import describe_environment
from fct_ray.storage import documents, objects
from fct_ray.workflows.doctor import DoctorSettings, examine


@dataclass(frozen=True, kw_only=True)
class Settings(DoctorSettings):
    """Look at a gallery before anything is done with it."""

    place: tyro.conf.Positional[str]
    """Directory, pattern (in quotes) or s3:// prefix of Parquet objects, or a store."""
    html: str | None = None
    """Write one page with statistics only to this file: no ids, no vectors, no paths."""
    fail_on: Level | None = None
    """Exit with 2 if a finding is at least as grave: note, warning or error."""


def run(settings: Settings) -> Finished:
    """Look, and say what was seen."""
    diagnosis = examine(settings.place, settings)
    print_diagnosis(diagnosis)
    if settings.html is not None:
        page = render_diagnosis(diagnosis, describe_environment(datetime.now(UTC)))
        objects.write_bytes(objects.absolute(settings.html), page.encode())
        print(f"\npage: {settings.html}", flush=True)
    return Finished(document=documents.plain(diagnosis), refusal=_refusal(diagnosis, settings))


def _refusal(diagnosis: Diagnosis, settings: Settings) -> FctRayError | None:
    level = settings.fail_on
    found = [finding for finding in diagnosis.findings if level is not None and finding.level.reaches(level)]
    if not found:
        return None
    first = found[0]
    return DataError(
        f"{settings.place}: {len(found)} finding{'s' if len(found) > 1 else ''} of level {level} or above, want none "
        f"(--fail-on); the first: {first.seen} {first.action}".strip()
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Parse the command line (None: this process's own) and run; `program` is what was typed before it."""
    run_job((Settings, run), __doc__ or "", argv, program)
