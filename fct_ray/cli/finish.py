"""The end of every command: show the report, write it, say where it lies, and what a program is told.

Owns: what a command hands back to `command_line`, which turns it into an exit code and, with `--json`, into an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fct_ray.cli.console import print_report
from fct_ray.errors import FctRayError, GateRefusedError
from fct_ray.report.content import Report
from fct_ray.report.json_file import document
from fct_ray.report.report_files import write_report
from fct_ray.storage import objects
from fct_ray.storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What became of a command."""

    document: Mapping[str, object]
    """What `--json` prints: the content of report.json, where there is a report."""
    refusal: FctRayError | None = None
    """Why the command ends with an error, although it came to its end and its report is written."""


def finish(
    report: Report, report_dir: str | None, *, refused: bool = False, refusal: FctRayError | None = None
) -> Finished:
    """Print the report and write it to `report_dir`, or to the run's own place in the store.

    `refused`: the gate refused, so nothing was published; `refusal` is any other error that was found.
    """
    directory = report_dir or Store(report.store).run_uri(report.run, "report")
    print_report(report)
    uri = write_report(report, directory, objects.write_bytes)
    print(f"\nreport: {uri}", flush=True)
    if refused:
        gate = report.gate
        other = "" if gate is None or gate.other_task is None else f" {gate.other_task.sentence}"
        reason = "" if gate is None else f" {gate.reason}.{other} {gate.advice}"
        refusal = GateRefusedError(f"nothing was published, CURRENT is unchanged:{reason} (report: {uri})")
    return Finished(document=document(report), refusal=refusal)
