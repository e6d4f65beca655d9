"""Whole upgrades on storage that fails: S3 through a proxy that injects faults, wrong and expiring credentials, a full disk.

What must come of it is always the same: the shards and indexes of an undisturbed run on local disk, byte for byte.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fct_ray.engine.cluster import ClusterSize
from fct_ray.storage import objects
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from tests.faulty_s3 import Fault, FaultyS3, Request, no_faults, random_faults
from tests.jobs.conftest import run_job
from tests.s3_server import S3Server
from tests.small_disk import small_disk

REFUSED_OR_BROKEN = (Fault.SLOW_DOWN, Fault.RESET, Fault.LOST, Fault.CUT, Fault.CUT_BY_RESET)
SHARES = {
    **dict.fromkeys(REFUSED_OR_BROKEN, 0.02),
    **dict.fromkeys((Fault.CONFLICT, Fault.REPEATED), 0.2),
    Fault.DENIED: 0.01,
    **dict.fromkeys((Fault.STALL, Fault.DEAF, Fault.TRICKLE), 0.001),
}
"""Of requests, or of conditional puts: a tenth of all, more than any store that is still in use."""


def _outputs(store: object) -> dict[str, bytes]:
    """The shards and indexes of version 2, by their path in it."""
    version = f"{store}/versions/000002"
    uris = [uri for kind in ("shards", "index") for uri in objects.list_uris(f"{version}/{kind}")]
    return {uri.removeprefix(version): objects.read_bytes(uri) for uri in uris}


@pytest.fixture
def faulty(
    cluster: ClusterSize, s3_proxy: FaultyS3, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyS3]:
    """The proxy, to which the environment of the jobs now points, as that of the cluster's workers does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.endpoint)
    yield s3_proxy
    s3_proxy.schedule = no_faults


@pytest.mark.timeout(900)
@pytest.mark.journey
def test_an_upgrade_through_faults_and_expiring_credentials_ends_with_the_bytes_of_an_undisturbed_one(
    faulty: FaultyS3, s3: S3Server, gallery: Path, by_h: tuple[str, ...], undisturbed: Path
) -> None:
    """Store, embeddings and report in two buckets, below prefixes with spaces and letters beyond ASCII."""
    s3.make_bucket("zweiter")
    vectors, store, report_dir = "s3://zweiter/Vektoren 1", "s3://test/galerie für Bilder/ж 1", "s3://zweiter/Bericht ß"
    for path in sorted(gallery.iterdir()):
        objects.write_bytes(f"{vectors}/{path.name}", path.read_bytes())
    arguments = ("--store", store, "--report-dir", report_dir, *by_h)
    random = faulty.schedule = random_faults(1, SHARES)
    run_adopt(plan_adopt(AdoptSettings(store=store, embeddings=f"{vectors}/part-*.parquet", encoder="old-api")))

    expired_s: list[float] = []

    def expire_after_the_first_receipt(request: Request) -> Fault | None:
        if not expired_s and request.method == "PUT" and "/receipts/" in request.path:
            expired_s.append(time.monotonic())
            return None
        return Fault.EXPIRED if expired_s else random(request)

    faulty.schedule = expire_after_the_first_receipt
    done = run_job("upgrade", *arguments, expect=2)
    assert time.monotonic() - expired_s[0] < 30
    said = done.stderr[done.stderr.index("StoreError: ") :]
    assert f": {store}/" in said or f": {vectors}/" in said, "whichever was in use when it expired"
    assert "AWS_SESSION_TOKEN (expired?)" in said

    faulty.schedule = random
    report_uri = run_job("upgrade", *arguments).stdout.strip().splitlines()[-1].removeprefix("report: ")
    assert report_uri == f"{report_dir}/report.json"
    report = json.loads(objects.read_bytes(report_uri))
    assert (report["version"], report["rows"], report["stages"]["stream"]["rows"]) == (2, 6000, 6000)
    assert _outputs(store) == _outputs(undisturbed)
    assert min(faulty.met[fault] for fault in (*REFUSED_OR_BROKEN, Fault.DENIED)) >= 1, faulty.met
    assert faulty.met[Fault.CONFLICT] + faulty.met[Fault.REPEATED] >= 1, faulty.met


def test_jobs_with_wrong_credentials_end_within_seconds_with_one_clear_line(
    faulty: FaultyS3, s3_uri: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    asked_s: list[float] = []
    faulty.schedule = lambda _: asked_s.append(time.monotonic())
    for job in (
        ("store", "status", "--store", s3_uri),
        ("upgrade", "--store", s3_uri, "--pairs", pairs, "--encoder", "new-api"),
    ):
        asked_s.clear()
        done = run_job(*job, expect=2)
        assert time.monotonic() - asked_s[0] < 10, "from the first request to the end of the job"
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"StoreError: {s3_uri}/CURRENT.json: cannot read: refused (SignatureDoesNotMatch")
        assert "AWS_SECRET_ACCESS_KEY" in line


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_upgrade_onto_a_full_disk_says_so_and_goes_on_when_space_is_back(
    adopted: Path, by_h: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    outputs = _outputs(undisturbed)
    wanted_bytes = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
    with small_disk(tmp_path, wanted_bytes - sum(map(len, outputs.values())) // 4) as disk:
        store = Path(shutil.copytree(adopted, disk.path / "store"))
        done = run_job("upgrade", "--store", store, *by_h, expect=2)
        last = done.stderr.strip().splitlines()[-1]
        assert str(store) in last
        assert "No space left on device" in last
        assert (store / "versions/000002/receipts").exists(), "it was in the middle of the stream"
        assert not (store / "versions/000002/manifest.json").exists()
        assert json.loads((store / "CURRENT.json").read_text())["version"] == 1
        assert all(outputs[path] == data for path, data in _outputs(store).items()), "no half-written object"
        assert list(store.rglob(".*.tmp")) == []
        disk.resize(2 * wanted_bytes)
        run_job("upgrade", "--store", store, *by_h)
        assert _outputs(store) == outputs
