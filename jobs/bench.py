"""Measure the engine against its limits and its peers, on this machine, side by side.

Examples:
    python jobs/bench.py contest                                  # 200,000 rows, 3 rounds, about 10 minutes on 2 cores
    python jobs/bench.py contest --data.rows 2000000 --rounds 1
    python jobs/bench.py contest --contenders loop ours_whole backfill_small backfill_resnet50

Every figure is one of the machine it was measured on; compare ratios, and only those of one run.
"""

from dataclasses import dataclass
from pathlib import Path

from fct_ray.bench.contest import ContestSettings, run_contest
from fct_ray.bench.contest_report import contest_json, contest_table
from fct_ray.command_line import run_job
from fct_ray.report.console import print_table
from fct_ray.storage import objects


@dataclass(frozen=True, kw_only=True)
class Contest(ContestSettings):
    """Run the contenders in turns on the same data."""

    output: str = ".data/bench/contest.json"
    """Where the figures go."""


def contest(settings: Contest) -> None:
    """All contenders on the same data, in turns."""
    result = run_contest(settings)
    print_table(contest_table(result))
    _write(settings.output, contest_json(result))


def _write(output: str, data: bytes) -> None:
    uri = str(Path(output).absolute()) if "://" not in output else output
    objects.write_bytes(uri, data)
    print(f"\nreport: {uri}", flush=True)


if __name__ == "__main__":
    run_job({"contest": (Contest, contest)}, __doc__ or "")
