"""Fits with one and with two Ray Train workers agree: the work is divided, the outcome is not another one."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.trainer import TrainSettings
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.values import EncoderRef
from fct_ray.workflows.upgrade.candidates import Candidate, Direction, FitJob, fit_candidates
from fct_ray.workflows.upgrade.pairs import Pairs
from tests.fashion_vectors import fashion_vectors

COSINE_TOLERANCE = 0.01
"""Two workers see other batches and other BatchNorm statistics: outputs differ, their quality must not."""


def _pairs(rows: slice) -> Pairs:
    vectors = fashion_vectors(6000)
    return Pairs(
        ids_P=vectors.ids_N[rows],
        old_PD=vectors.old_ND[rows],
        side_PS=vectors.side_NS[rows],
        new_PW=vectors.new_NW[rows],
        labels_P=None,
    )


def _fit(num_workers: int, cluster: ClusterSize, storage: Path) -> Candidate:
    candidates = fit_candidates(
        _pairs(slice(0, 3000)),
        _pairs(slice(3000, 6000)),
        Direction(
            old=EncoderRef(name="old", fingerprint="0" * 64),
            new=EncoderRef(name="new", fingerprint="1" * 64),
            side_fingerprint="2" * 64,
            normalized=True,
        ),
        FitJob(
            fit=TransformationFit(inner=128, epochs=20),
            train=TrainSettings(num_workers=num_workers, threads=1),
            seed=0,
            controls=False,
            storage_uri=str(storage),
        ),
        cluster,
    )
    return next(candidate for candidate in candidates if candidate.method == "fct_side")


def _held_out_cosine(candidate: Candidate) -> float:
    held_out = _pairs(slice(3000, 6000))
    output, _ = TransformRunner(candidate.model, batch_rows=1000).run(held_out.old_PD, held_out.side_PS)
    return float((output * held_out.new_PW).sum(axis=1).mean())


@pytest.fixture(scope="module")
def one(cluster: ClusterSize, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Fitted by one worker."""
    return _fit(1, cluster, tmp_path_factory.mktemp("one"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_and_two_workers_fit_transformations_of_the_same_quality(
    one: Candidate, cluster: ClusterSize, tmp_path: Path
) -> None:
    two = _fit(2, cluster, tmp_path)
    cosines = _held_out_cosine(one), _held_out_cosine(two)
    assert min(cosines) > 0.8
    assert abs(cosines[0] - cosines[1]) < COSINE_TOLERANCE, cosines
    rows = one.usage.rows
    assert two.usage.rows == pytest.approx(rows, rel=0.1), "two workers divide the work, they do not double it"


@pytest.mark.journey
def test_the_same_fit_on_the_same_pairs_is_found_again(one: Candidate, cluster: ClusterSize) -> None:
    found = _fit(1, cluster, Path(one.uri).parent)
    assert (found.uri, found.usage) == (one.uri, one.usage)


@pytest.mark.timeout(600)
@pytest.mark.journey
def test_a_fit_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_weights(
    one: Candidate, cluster: ClusterSize, tmp_path: Path
) -> None:
    killed: list[int] = []
    watch = threading.Thread(target=_kill_worker_after_checkpoint, args=(tmp_path, killed), daemon=True)
    watch.start()
    resumed = _fit(1, cluster, tmp_path)
    watch.join()
    assert killed, "the fit was over before its worker could be killed"
    assert resumed.uri != one.uri
    assert resumed.model.document.weights_sha256 == one.model.document.weights_sha256
    assert (resumed.usage.flops, resumed.usage.rows) == (one.usage.flops, one.usage.rows)


def _kill_worker_after_checkpoint(storage: Path, killed: list[int]) -> None:
    """SIGKILL the Ray Train worker of this process's cluster as soon as a checkpoint is listed."""
    end_s = time.monotonic() + 300
    while time.monotonic() < end_s and not any("checkpoint_dir_name" in text for text in _checkpoint_lists(storage)):
        time.sleep(0.005)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[0].startswith("ray::RayTrainWorker"):
                process.kill()
                killed.append(process.pid)


def _checkpoint_lists(storage: Path) -> list[str]:
    return [path.read_text() for path in storage.glob("h-*/checkpoint_manager_snapshot.json")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fit_starts_over_where_a_kill_tore_the_list_of_its_checkpoints(
    one: Candidate, cluster: ClusterSize, tmp_path: Path
) -> None:
    storage = Path(shutil.copytree(Path(one.uri).parent, tmp_path / "torn"))
    (memory,) = storage.glob("h-*.json")
    memory.unlink()
    (storage / memory.stem / "checkpoint_manager_snapshot.json").write_bytes(b"")
    again = _fit(1, cluster, storage)
    assert again.model.document.weights_sha256 == one.model.document.weights_sha256
