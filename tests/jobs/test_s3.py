"""Everything on S3: raw items, models, store, runs, reports, on a real server; and credentials in nothing of it.

Searched for credentials: every object, stdout and stderr, Ray's whole session directories (logs of all its processes), and
names and command lines of all processes while the jobs run.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct_ray.shards.model_directory import open_encoder
from fct_ray.sources.registry import open_source
from fct_ray.storage import objects
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.store import Store
from tests.conftest import ROOT
from tests.fashion_vectors import fixed_size_list
from tests.jobs import fashion_encoders
from tests.jobs.conftest import ONE_ACTOR, SMALL_FIT, run_job
from tests.jobs.traces import Traces
from tests.s3_server import S3Server

NUM_PHOTOS, NUM_QUERIES, K = 1200, 20, 5
SMALL_ENCODER = (
    "--fit.backbone", "small_cnn-4", "--fit.epochs", "1", "--fit.batch-size", "64", "--fit.dimension", "8",
)  # fmt: skip
ENCODERS = "tests.jobs.fashion_encoders"
VERBOSE = ("--cluster.verbose", "--cluster.num-cpus", "2")

pytestmark = pytest.mark.journey


@dataclass(frozen=True, kw_only=True)
class Journey:
    """Embed, upgrade (with the fit of h) and search, with everything on S3, as it left things."""

    uri: str
    """Below which everything lies: photos, store (with h, its checkpoints and the runs), found neighbours."""
    report: str
    """What the upgrade's last line names."""
    token: str
    """A session token that one of the jobs had."""
    traces: Traces


@pytest.fixture(scope="module")
def journey(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """One job has its keys from a file, and a session token in the environment; the others have keys in the environment.

    (SeaweedFS refuses requests with a session token; without keys beside it, nothing sends it.)
    """
    uri, traces, token = "s3://test/journey", Traces(tmp_path_factory.mktemp("journey")), secrets.token_hex(24)
    photos, store = f"{uri}/photos", f"{uri}/store"
    keys = tmp_path_factory.mktemp("home") / "credentials"
    keys.write_text(f"[default]\naws_access_key_id={s3.access_key}\naws_secret_access_key={s3.secret_key}\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3.environment(), "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        in_file = {**os.environ, "AWS_SHARED_CREDENTIALS_FILE": str(keys), "AWS_SESSION_TOKEN": token}
        del in_file["AWS_ACCESS_KEY_ID"], in_file["AWS_SECRET_ACCESS_KEY"]
        _upload_photos(photos)
        traces.run(
            "embed", "backfill", "--store", store, "--source", f"images:{photos}", "--encoder", f"{ENCODERS}:old",
            "--side", f"{ENCODERS}:side", "--rows-per-shard", NUM_PHOTOS // 3, *VERBOSE, *ONE_ACTOR,
            environment=in_file,
        )  # fmt: skip
        printed = traces.run(
            "upgrade", "--store", store, "--source", f"images:{photos}", "--encoder", f"{ENCODERS}:new",
            "--num-pairs", NUM_PHOTOS // 2, "--task", "similar", "--way", "h", *SMALL_FIT, *VERBOSE, *ONE_ACTOR,
        )  # fmt: skip
        traces.run(
            "search", "--store", store, "--queries", _write_queries(f"{uri}/queries.parquet", photos), "--k", K,
            "--encoder", f"{ENCODERS}:new", "--output", f"{uri}/found.parquet",
        )  # fmt: skip
        traces.run("store", "status", "--store", store, environment=in_file)
        report = printed.strip().splitlines()[-1].removeprefix("report: ")
        yield Journey(uri=uri, report=report, token=token, traces=traces)
        traces.clear()


def test_the_upgraded_version_has_every_row_and_its_report_lies_beside_it(journey: Journey) -> None:
    assert journey.report.startswith(f"{journey.uri}/store/runs/upgrade-")
    report = json.loads(objects.read_bytes(journey.report))
    assert (report["version"], report["rows"], report["gate"]["passed"]) == (2, NUM_PHOTOS, True)
    assert report["stages"]["fit"]["busy_cpu_s"] > 0
    assert min(report["recovered_share"][method]["map"] for method in ("fct_side", "linear_side")) > 0.5
    manifest = Store(f"{journey.uri}/store").manifest()
    assert [record.rows for record in manifest.shards] == [NUM_PHOTOS // 3] * 3
    assert manifest.transformation is not None


def test_photos_find_themselves_by_the_new_encoder(journey: Journey) -> None:
    table = pq.read_table(pa.BufferReader(objects.read_bytes(f"{journey.uri}/found.parquet")))
    assert len(table) == NUM_QUERIES * K
    own = table.filter(pc.equal(table["query"], table["id"]))
    assert len(own) > 0.3 * NUM_QUERIES, "far above chance (0.4 %)"


def test_no_credential_is_in_anything_that_jobs_leave_or_show(journey: Journey, s3: S3Server) -> None:
    places = journey.traces.places()
    places |= {uri: objects.read_bytes(uri) for uri in objects.list_uris(journey.uri)}
    assert len(journey.traces.ray_directories()) == 2
    names = " ".join(places)
    for wanted in (
        *("gcs_server", "raylet", "python-core-worker", "default_worker"),
        *("report.html", "CURRENT.json", "gate.json", "model.json", "checkpoint"),
    ):
        assert wanted in names, f"{wanted} was not searched"
    for what, secret in (("key id", s3.access_key), ("secret key", s3.secret_key), ("session token", journey.token)):
        shown_in = [name[:200] for name, content in places.items() if secret.encode() in content]
        assert shown_in == [], f"the {what} is in {shown_in}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_encoder_is_fitted_from_photos_on_s3_to_a_model_on_s3_and_found_again(s3_uri: str) -> None:
    _upload_photos(f"{s3_uri}/photos")
    arguments = ("--source", f"images:{s3_uri}/photos", "--output", f"{s3_uri}/models", *SMALL_ENCODER)
    run_job("fit", "old", *arguments)
    (uri,) = (uri for uri in objects.list_uris(f"{s3_uri}/models") if uri.endswith("/model.json"))
    assert open_encoder(uri.removesuffix("/model.json")).dimension == 8
    assert "fitted before" in run_job("fit", "old", *arguments).stdout


def _upload_photos(prefix: str) -> None:
    source = open_source("fashion-mnist:fit")
    items, labels = source.read(np.arange(NUM_PHOTOS)), source.labels_N
    assert labels is not None
    for number in range(NUM_PHOTOS):
        buffer = io.BytesIO()
        Image.fromarray(items.columns["image"][number, :, :, 0]).save(buffer, format="PNG")
        objects.write_bytes(f"{prefix}/class-{labels[number]}/{number:05d}.png", buffer.getvalue())


def _write_queries(uri: str, photos: str) -> str:
    """The first photos' embeddings by the new encoder."""
    items = open_source(f"images:{photos}").read(np.arange(NUM_QUERIES))
    vectors = fixed_size_list(fashion_encoders.new().encode(items.columns))
    pair_files.write_table(uri, pa.table({"id": items.ids_N, "embedding": vectors}))
    return uri
