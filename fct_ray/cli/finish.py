"""The end of every job: show the report, write it, say where it lies, and exit non-zero if the gate refused."""

from __future__ import annotations

from fct_ray.cli.console import print_report
from fct_ray.errors import GateRefusedError
from fct_ray.report.content import Report
from fct_ray.report.report_files import write_report
from fct_ray.storage import objects
from fct_ray.storage.store import Store


def finish(report: Report, report_dir: str | None, *, refused: bool = False) -> None:
    """Print the report and write it to `report_dir`, or to the run's own place in the store.

    Raises:
        GateRefusedError: `refused`; the report is written first.
    """
    directory = report_dir or Store(report.store).run_uri(report.run, "report")
    print_report(report)
    uri = write_report(report, directory, objects.write_bytes)
    print(f"\nreport: {uri}", flush=True)
    if refused:
        reason = "" if report.gate is None else f" {report.gate.reason}. {report.gate.advice}"
        raise GateRefusedError(f"nothing was published, CURRENT is unchanged:{reason} (report: {uri})")
