"""Credentials go nowhere: real jobs against a real S3 server, and a search through everything that they leave.

Searched: every object of the store, the report, stdout and stderr, Ray's whole session directory (logs of all its
processes), and names and command lines of all processes while the jobs run.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from fct_ray.command_line import parse_settings
from fct_ray.errors import SettingsError
from fct_ray.storage import objects
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.store import Store
from jobs.upgrade import Settings
from tests.jobs.conftest import ROOT, SMALL_FIT, command, run_job
from tests.s3_server import S3Server

RAY_DIRECTORY = re.compile(r"/tmp/fct-ray-\w+")  # noqa: S108 (where the jobs have it)


class Traces:
    """What jobs printed, and how their processes called themselves."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.processes = directory, set[str]()

    def run(self, job: str, *arguments: object, environment: Mapping[str, str]) -> None:
        """Run a job to its end, looking at its processes all the time."""
        output = self.directory / f"{job}-{time.monotonic_ns()}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command(job, *arguments), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
            while process.poll() is None:
                self._look(psutil.Process(process.pid))
                time.sleep(0.5)
        assert process.returncode == 0, output.read_text()[-5000:]

    def ray_directories(self) -> list[Path]:
        """Session directories of the local clusters that the jobs started, kept by `--cluster.verbose`."""
        found = {name for process in self.processes for name in RAY_DIRECTORY.findall(process)}
        return [Path(name) for name in sorted(found) if Path(name).is_dir()]

    def files(self) -> Iterator[Path]:
        """Everything that lies in files."""
        for directory in (self.directory, *self.ray_directories()):
            yield from (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())

    def _look(self, job: psutil.Process) -> None:
        for process in (job, *job.children(recursive=True)):
            try:
                self.processes.add(" ".join((process.name(), *process.cmdline())))
            except psutil.NoSuchProcess:
                continue


@pytest.mark.timeout(600)
def test_no_credential_is_in_anything_that_jobs_leave_or_show(
    s3: S3Server, s3_uri: str, gallery: Path, pairs: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One job has its keys from a file, and a session token in the environment; the others have keys in the environment.

    (SeaweedFS refuses requests with a session token; without keys beside it, nothing sends it.)
    """
    token, store, report, traces = secrets.token_hex(24), f"{s3_uri}/store", tmp_path / "report", Traces(tmp_path)
    keys = tmp_path_factory.mktemp("home") / "credentials"
    keys.write_text(f"[default]\naws_access_key_id={s3.access_key}\naws_secret_access_key={s3.secret_key}\n")
    in_environment = dict(os.environ)
    in_file = {**os.environ, "AWS_SHARED_CREDENTIALS_FILE": str(keys), "AWS_SESSION_TOKEN": token}
    del in_file["AWS_ACCESS_KEY_ID"], in_file["AWS_SECRET_ACCESS_KEY"]
    for file in gallery.glob("*.parquet"):
        objects.write_bytes(f"{s3_uri}/gallery/{file.name}", file.read_bytes())
    verbose = ("--cluster.verbose", "--cluster.num-cpus", 2)
    try:
        traces.run(
            "embed", "adopt", "--store", store, "--embeddings", f"{s3_uri}/gallery", "--encoder", "old-api", *verbose,
            environment=in_file,
        )  # fmt: skip
        traces.run(
            "upgrade", "--store", store, "--pairs", pairs, "--encoder", "new-api", *SMALL_FIT, "--report-dir", report,
            *verbose, environment=in_environment,
        )  # fmt: skip
        found = tmp_path / "found.parquet"
        queries = pair_files.read_table(str(pairs)).slice(0, 10)
        pair_files.write_table(str(tmp_path / "queries.parquet"), queries)
        traces.run(
            "search", "--store", store, "--queries", tmp_path / "queries.parquet", "--encoder", "new-api", "--output", found,
            environment=in_environment,
        )  # fmt: skip
        traces.run("store", "status", "--store", store, environment=in_file)
        assert Store(store).manifest().version == 2
        assert len(traces.ray_directories()) == 2
        places = {str(path): path.read_bytes() for path in traces.files()}
        places |= {uri: objects.read_bytes(uri) for uri in objects.list_uris(s3_uri)}
        places |= {process: process.encode() for process in traces.processes}
        names = " ".join(places)
        for wanted in (
            "gcs_server",
            "raylet",
            "python-core-worker",
            "report.html",
            "CURRENT.json",
            "gate.json",
            "default_worker",
        ):
            assert wanted in names, f"{wanted} was not searched"
        for what, secret in (("key id", s3.access_key), ("secret key", s3.secret_key), ("session token", token)):
            shown_in = [name[:200] for name, content in places.items() if secret.encode() in content]
            assert shown_in == [], f"the {what} is in {shown_in}"
    finally:
        for directory in traces.ray_directories():
            shutil.rmtree(directory, ignore_errors=True)


def test_a_refused_credential_is_not_in_the_error(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = secrets.token_hex(20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    done = run_job("store", "status", "--store", f"{s3_uri}/store", expect=2)
    assert "refused" in done.stderr
    assert wrong not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("s3://AKIAEXAMPLE:wJalrXUtnFEMI@bucket/gallery", ("AKIAEXAMPLE", "wJalrXUtnFEMI")),
        ("s3://AKIAEXAMPLE:wJal/rXUtn+FEMI@bucket/gallery", ("AKIAEXAMPLE", "wJal", "FEMI")),
        ("s3://AKIAEXAMPLE@bucket/gallery", ("AKIAEXAMPLE",)),
        ("https://user:pass1word@host/gallery", ("pass1word",)),
        ("images:https://user:pa/ss1word@host/photos", ("ss1word",)),
    ],
)
def test_credentials_in_a_uri_are_refused_by_setting_and_not_repeated(
    value: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"store: {value!r}\n")
    for arguments in (["--store", value], [f"--store={value}"], ["--config", str(file)]):
        with pytest.raises(SettingsError, match=r"^--store: a URI with credentials in it") as refusal:
            parse_settings(Settings, arguments, None)
        assert not [part for part in parts if part in str(refusal.value)]


def test_a_job_refuses_credentials_in_a_uri_before_anything_shows_them() -> None:
    for command_name in ("status", "stauts"):
        done = run_job("store", command_name, "--store", "s3://AKIAEXAMPLE:wJalrXUtnFEMI@bucket/gallery", expect=2)
        assert "--store: a URI with credentials" in done.stderr
        assert "AKIAEXAMPLE" not in done.stdout + done.stderr
        assert "wJalrXUtnFEMI" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "value", ["s3://bucket/a@b", "images:s3://b/p?x=a@b", "http://127.0.0.1:8265", "tests.own:old"]
)
def test_what_only_looks_like_credentials_is_accepted(value: str) -> None:
    assert parse_settings(Settings, ["--store", value], None).store == value
