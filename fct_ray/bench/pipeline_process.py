"""A pipeline in a process of its own, measured from outside: wall time, CPU seconds and memory of all its processes.

    parent                                        child: python -m fct_ray.bench.pipeline_process NAME JOB.json
      start  --------------------------------->     prepare
             <------------------------------- READY
      "go", clock starts --------------------->     run
             <----------------- DONE {what it did}
      last counters are read, "end" ---------->     exit

Owns both ends of this exchange, and the sampling of the process tree a few times a second. CPU seconds of a process that
ended between two samples are missing for that interval; memory is the resident set of the largest process, and of all
together (shared pages counted once per process, so the sum is an upper bound).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from fct_ray.bench.pipelines import Done, PipelineJob, load_pipeline
from fct_ray.engine.border import set_before_torch
from fct_ray.errors import IncompleteRunError

SAMPLE_S = 0.25
READY, DONE = "READY", "DONE "


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run of one pipeline."""

    pipeline: str
    round: int
    wall_s: float
    cpu_s: float
    peak_process_bytes: int
    """Largest resident set of any one of its processes."""
    peak_total_bytes: int
    """Largest sum of the resident sets of all its processes."""
    driver_peak_bytes: int
    """Largest resident set of the process that was started, which drives the others."""
    bytes_written: int
    done: Done

    @property
    def rows_per_s(self) -> float:
        """Rows over wall time."""
        return self.done.rows / self.wall_s


@dataclass(slots=True)
class _Sampler:
    """What a process tree uses, read in a thread."""

    root: psutil.Process
    stop: threading.Event = field(default_factory=threading.Event)
    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_process_bytes: int = 0
    peak_total_bytes: int = 0
    driver_peak_bytes: int = 0

    def run(self) -> None:
        while not self.stop.wait(SAMPLE_S):
            self.sample()

    def sample(self) -> None:
        total = 0
        for process in [self.root, *self.root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times, resident = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                continue
            self.cpu_s[process.pid] = times.user + times.system
            self.peak_process_bytes = max(self.peak_process_bytes, resident)
            if process.pid == self.root.pid:
                self.driver_peak_bytes = max(self.driver_peak_bytes, resident)
            total += resident
        self.peak_total_bytes = max(self.peak_total_bytes, total)


def measure(name: str, job: PipelineJob, round_number: int) -> Measurement:
    """Run a pipeline once; its output directory is emptied first, its job lies beside that as JSON.

    Raises:
        IncompleteRunError: it failed; its own error is on the error stream.
    """
    output = Path(job.output)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    job_file = output.with_suffix(".json")
    job_file.write_text(json.dumps(asdict(job)))
    command = [sys.executable, "-m", "fct_ray.bench.pipeline_process", name, str(job_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin is not None  # noqa: S101 (both are pipes)
        assert process.stdout is not None  # noqa: S101
        try:
            _wait_for(process.stdout, READY, name)
            sampler = _Sampler(root=psutil.Process(process.pid))
            sampler.sample()
            before = dict(sampler.cpu_s)
            thread = threading.Thread(target=sampler.run, daemon=True)
            thread.start()
            start_s = time.perf_counter()
            process.stdin.write("go\n")
            process.stdin.flush()
            line = _wait_for(process.stdout, DONE, name)
            wall_s = time.perf_counter() - start_s
            sampler.stop.set()
            thread.join()
            sampler.sample()
            process.stdin.write("end\n")
            process.stdin.flush()
        finally:
            process.stdin.close()
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.kill()
    return Measurement(
        pipeline=name,
        round=round_number,
        wall_s=wall_s,
        cpu_s=sum(sampler.cpu_s.values()) - sum(before.values()),
        peak_process_bytes=sampler.peak_process_bytes,
        peak_total_bytes=sampler.peak_total_bytes,
        driver_peak_bytes=sampler.driver_peak_bytes,
        bytes_written=sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        done=Done(**json.loads(line.removeprefix(DONE))),
    )


def _wait_for(lines: object, start: str, name: str) -> str:
    for line in lines:  # type: ignore[attr-defined]
        if line.startswith(start):
            return str(line).rstrip("\n")
    raise IncompleteRunError(f"pipeline {name!r} ended without its result; its own error is above")


def main(name: str, job_file: str) -> None:
    """The child: prepare, wait for the parent, run, report."""
    set_before_torch()  # the pipeline is loaded, and torch with it, afterwards
    job = PipelineJob(**json.loads(Path(job_file).read_text()))
    run = load_pipeline(name)(job)
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
