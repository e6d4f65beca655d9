"""What jobs leave and show: their output, the log files of their Ray, names and command lines of all their processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.conftest import ROOT
from tests.jobs.conftest import command

RAY_DIRECTORY = re.compile(r"/tmp/fct-ray-\w+")  # noqa: S108 (where the jobs have it)


class Traces:
    """Runs jobs, and looks at them meanwhile; with `--cluster.verbose` they keep Ray's log files."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.processes = directory, set[str]()

    def run(self, job: str, *arguments: object, environment: Mapping[str, str] | None = None) -> str:
        """Run a job to its end, looking at its processes all the time; returns what it printed."""
        output = self.directory / f"{job}-{time.monotonic_ns()}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command(job, *arguments), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment or os.environ
            )
            while process.poll() is None:
                self._look(psutil.Process(process.pid))
                time.sleep(0.5)
        assert process.returncode == 0, output.read_text()[-5000:]
        return output.read_text()

    def ray_directories(self) -> list[Path]:
        """Session directories of the local clusters that the jobs started."""
        found = {name for process in self.processes for name in RAY_DIRECTORY.findall(process)}
        return [Path(name) for name in sorted(found) if Path(name).is_dir()]

    def places(self) -> dict[str, bytes]:
        """The content of all files, and names and command lines of all processes, by what they are."""
        files = (path for path in self._files() if path.is_file() and not path.is_symlink())
        return {str(path): path.read_bytes() for path in files} | {text: text.encode() for text in self.processes}

    def clear(self) -> None:
        """Delete the session directories."""
        for directory in self.ray_directories():
            shutil.rmtree(directory, ignore_errors=True)

    def _files(self) -> Iterator[Path]:
        for directory in (self.directory, *self.ray_directories()):
            yield from directory.rglob("*")

    def _look(self, job: psutil.Process) -> None:
        for process in (job, *job.children(recursive=True)):
            try:
                self.processes.add(" ".join((process.name(), *process.cmdline())))
            except psutil.NoSuchProcess:
                continue
