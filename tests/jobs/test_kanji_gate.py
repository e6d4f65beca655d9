"""The gate on real data where h can do harm: kanji glyphs of characters that no model was trained on.

Needs the rendered glyphs (`make kanji-data`) and several minutes; `make test-all` runs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.jobs.conftest import report_of, run_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
UNSEEN = "characters=1500-2964"
KNOWN = "characters=0-1499"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Old on 300 characters, new on 1,500, side-information on the old 300."""
    output = tmp_path_factory.mktemp("models")
    flags = ("--output", output, "--fit.no-flip", "--fit.batch-size", 128)
    old = ("--fit.backbone", "small_cnn-8", "--fit.dimension", 128, "--fit.epochs", 4)
    new = ("--fit.backbone", "small_cnn-16x4", "--fit.dimension", 128, "--fit.epochs", 4, "--fit.scale", 24)
    side = ("--fit.backbone", "small_cnn-16x4", "--fit.dimension", 128, "--fit.epochs", 10)
    run_job("fit", "old", "--source", "kanji:fit?characters=0-299", *flags, *old)
    run_job("fit", "side", "--source", "kanji:fit?characters=0-299", *flags, *side)
    run_job("fit", "new", "--source", f"kanji:fit?{KNOWN}", *flags, *new)
    return {path.parent.name.split("-")[0]: str(path.parent) for path in output.glob("*/model.json")}


def _embed(store: Path, characters: str, models: dict[str, str]) -> None:
    run_job(
        "embed", "backfill", "--store", store, "--source", f"kanji:gallery?{characters}", "--encoder", models["old"],
        "--side", models["side"], "--rows-per-shard", 2000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Path:
    """The gallery of unseen characters, embedded with the old model."""
    store = tmp_path_factory.mktemp("unseen") / "store"
    _embed(store, UNSEEN, models)
    return store


def test_an_h_fitted_on_other_characters_without_side_information_is_refused(
    unseen: Path, models: dict[str, str], tmp_path: Path
) -> None:
    known = tmp_path / "known"
    _embed(known, KNOWN, models)
    run_job(
        "fit", "transformation", "--store", known, "--encoder", models["new"], "--source", f"kanji:gallery?{KNOWN}",
        "--num-pairs", 3000, "--side-info", "none", "--method", "fct_noside", "--output", tmp_path / "h",
        "--fit.batch-size", 128,
    )  # fmt: skip
    (h,) = (path.parent for path in (tmp_path / "h").glob("*/model.json"))
    done = run_job(
        "upgrade", "--store", unseen, "--encoder", models["new"], "--source", f"kanji:gallery?{UNSEEN}",
        "--transformation", h, "--num-pairs", 1172, "--gate.share", 0.5, expect=3,
    )  # fmt: skip
    assert "refused" in done.stderr
    assert json.loads((unseen / "CURRENT.json").read_text())["version"] == 1
    assert not (unseen / "versions/000002").exists()


def test_an_h_with_side_information_and_a_tenth_of_the_gallery_as_pairs_is_published(
    unseen: Path, models: dict[str, str], tmp_path: Path
) -> None:
    """A tenth to fit on and as many to judge by: few items of a sample share their character with another one."""
    learned = tmp_path / "learned"
    source = f"kanji:fit?{KNOWN}"
    run_job(
        "embed", "backfill", "--store", learned, "--source", source, "--encoder", models["old"],
        "--side", models["side"],
    )  # fmt: skip
    run_job(
        "fit", "transformation", "--store", learned, "--encoder", models["new"], "--source", source,
        "--num-pairs", 20_000, "--method", "fct_side", "--output", tmp_path / "h",
    )  # fmt: skip
    (h,) = (path.parent for path in (tmp_path / "h").glob("*/model.json"))
    done = run_job(
        "compare", "--store", unseen, "--encoder", models["new"], "--source", f"kanji:gallery?{UNSEEN}",
        "--old-encoder", models["old"], "--side-encoder", models["side"], "--queries", f"kanji:query?{UNSEEN}",
        "--num-pairs", 2344, "--gate.share", 0.5, "--start-from", h, "--fit.batch-size", 64, "--rows-per-shard", 2000,
        "--report-dir", tmp_path / "report", "--controls",
    )  # fmt: skip
    report = report_of(done)
    assert report["gate"]["passed"] is True
    chosen = report["gate"]["chosen"]
    recovered = report["recovered_share"]
    (ROOT / ".data").mkdir(exist_ok=True)
    (ROOT / ".data/kanji-unseen-report.json").write_text(json.dumps(report, indent=1))
    assert chosen.endswith("_side")
    assert recovered[chosen]["map"] > 0.2
    assert recovered["fct_side"]["map"] > recovered["fct_noside"]["map"]
