"""`ray job submit -- python jobs/upgrade.py` on a real head node with token authentication."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fct_ray.storage.store import Store
from tests.conftest import ROOT

RAY = str(Path(sys.executable).with_name("ray"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """A head node of our own: its ports, its directory, its token; ended by process id."""
    directory = tempfile.mkdtemp(prefix="ray-head-", dir="/tmp")
    port, dashboard = _free_port(), _free_port()
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment.pop("RAY_ADDRESS", None)
    start = [
        RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", "--include-dashboard=true",
        f"--temp-dir={directory}", "--num-cpus=2", "--object-store-memory=500000000", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={_free_port()}",  # 52365 otherwise: a second head on this machine has no agent
    ]  # fmt: skip
    process = subprocess.Popen(start, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    finally:
        for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def submit(head: dict[str, str], *arguments: object, timeout_s: float = 400.0) -> subprocess.CompletedProcess[str]:
    """Submit a job and wait for it; a head that has just started may have no agent yet, so try again for a while."""
    entry = [RAY, "job", "submit", "--", sys.executable, *(str(argument) for argument in arguments)]
    end = time.monotonic() + timeout_s
    while True:
        done = subprocess.run(entry, env=head, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
        output = done.stdout + done.stderr
        starting = "No available agent" in output or "Failed to connect" in output or "Connection refused" in output
        if not starting or time.monotonic() > end:
            return done
        time.sleep(2)


@pytest.mark.timeout(900)
@pytest.mark.journey
def test_a_submitted_upgrade_runs_on_the_head_node_and_publishes(
    head: dict[str, str], shop: Path, by_h: tuple[str, ...]
) -> None:
    store = shop
    done = submit(head, ROOT / "jobs/upgrade.py", "--store", store, *by_h)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "report: " in done.stdout
    assert Store(str(store)).manifest().version == 2


def test_a_client_without_the_token_is_refused(head: dict[str, str]) -> None:
    stranger = {**head, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = submit(stranger, "-c", "print('should never run')", timeout_s=60)
    assert done.returncode != 0
    assert "should never run" not in done.stdout


def test_what_is_known_of_a_submitted_job_has_no_credential_of_the_submitter(head: dict[str, str]) -> None:
    secret = secrets.token_hex(20)
    environment = {**head, "AWS_ACCESS_KEY_ID": "AKIA" + secret[:16].upper(), "AWS_SECRET_ACCESS_KEY": secret}
    done = submit(environment, "-c", "print(6*7)", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    listing = urllib.request.Request(  # noqa: S310
        f"{head['RAY_API_SERVER_ADDRESS']}/api/jobs/", headers={"Authorization": f"Bearer {head['RAY_AUTH_TOKEN']}"}
    )
    with urllib.request.urlopen(listing, timeout=60) as answer:  # noqa: S310
        known = answer.read().decode()
    assert "print(6*7)" in known
    for text in (done.stdout, done.stderr, known):
        assert secret not in text
        assert environment["AWS_ACCESS_KEY_ID"] not in text
        assert head["RAY_AUTH_TOKEN"] not in text
