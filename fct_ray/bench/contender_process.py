"""One contender in a process of its own: `python -m fct_ray.bench.contender_process NAME JOB.json`.

Prints READY when it is prepared, waits for a line, runs, and prints what it did as one line of JSON. The parent measures.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import fct_ray.engine  # noqa: F401 - sets what must be set before torch loads OpenMP
from fct_ray.bench.contenders import ContenderJob, load_contender

READY, DONE = "READY", "DONE "


def main(name: str, job_file: str) -> None:
    """Prepare, wait for the parent, run, report."""
    job = ContenderJob(**json.loads(Path(job_file).read_text()))
    run = load_contender(name).prepare(job)
    _say(READY)
    sys.stdin.readline()
    done = run()
    _say(DONE + json.dumps(asdict(done)))
    sys.stdin.readline()  # stay until the parent has read the last counters


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
