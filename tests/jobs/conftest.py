"""Running jobs as users do: as scripts in their own process, on the test session's cluster if it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from fct_ray.engine.cluster import ClusterSize
from fct_ray.storage.store import Store
from tests.conftest import ROOT
from tests.fashion_vectors import Vectors, fashion_vectors, write_gallery, write_pairs
from tests.galleries import linear_h

ONE_ACTOR = ("--pool.min-actors", "1", "--pool.max-actors", "1")  # starting another takes longer than it saves
SMALL_FIT = ("--fit.inner", "128", "--fit.epochs", "20", "--train.num-workers", "1")


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    """6,000 real photos by three encoders."""
    return fashion_vectors(6000)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> Path:
    """The gallery as six Parquet files of another system."""
    return write_gallery(tmp_path_factory.mktemp("gallery"), vectors, 6)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> Path:
    """1,500 pairs as a user with an API brings them."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.parquet", vectors, 1500)


@pytest.fixture(scope="session")
def adopted(tmp_path_factory: pytest.TempPathFactory, gallery: Path, cluster: ClusterSize) -> Path:
    """The gallery as version 1 of a store; tests work on copies."""
    store = tmp_path_factory.mktemp("adopted") / "store"
    run_job("embed", "adopt", "--store", store, "--embeddings", gallery, "--encoder", "old-api", "--metric", "ip")
    return store


@pytest.fixture
def shop(adopted: Path, tmp_path: Path) -> Path:
    """A copy of the adopted store."""
    return Path(shutil.copytree(adopted, tmp_path / "shop"))


@pytest.fixture(scope="session")
def by_h(tmp_path_factory: pytest.TempPathFactory, adopted: Path, pairs: Path, vectors: Vectors) -> tuple[str, ...]:
    """Arguments of an upgrade of such a store by an h that is given: nothing is fitted, so no Ray Train starts."""
    h = linear_h(Store(str(adopted)), vectors, "new-api", tmp_path_factory.mktemp("models"))
    return (
        "--pairs",
        str(pairs),
        "--encoder",
        "new-api",
        "--index",
        "IVF16,Flat",
        "--transformation",
        h,
        "--accept",
        "provisional",
        *ONE_ACTOR,
    )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, adopted: Path, by_h: tuple[str, ...]) -> Path:
    """The store after that upgrade on local disk, with nothing in its way."""
    store = Path(shutil.copytree(adopted, tmp_path_factory.mktemp("undisturbed") / "store"))
    run_job("upgrade", "--store", store, *by_h)
    return store


def command(job: str, *arguments: object) -> list[str]:
    """The command line of a job."""
    return [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *(str(argument) for argument in arguments)]


def run_job(job: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a job to its end and check its exit code; the output is in the error message."""
    environment = dict(os.environ)
    if ray.is_initialized():
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        command(job, *arguments), capture_output=True, text=True, cwd=ROOT, timeout=500, check=False, env=environment
    )
    assert done.returncode == expect, f"{job} exited {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done


def run_and_kill(when: Callable[[], bool], job: str, *arguments: object) -> None:
    """Start a job and kill its process with SIGKILL at a moment; it must not have ended before."""
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    process = subprocess.Popen(
        command(job, *arguments), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 300
    while not when():
        assert process.poll() is None, "it ended before the moment came"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The report that a job named in its last line."""
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("report: ")
    report: dict[str, Any] = json.loads(Path(last.removeprefix("report: ")).read_text())
    return report
