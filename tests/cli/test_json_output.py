"""`--json` gives one JSON object on the standard output, whatever happens, and everything else on the error stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fashion_vectors import fashion_vectors, write_gallery

SEARCH = ("--store", "s", "--queries", "q", "--encoder", "e", "--output", "o")
APPEND = ("--store", "s", "--encoder", "e", "--embeddings", "new.parquet")


def fct_ray(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-c", "from fct_ray.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=500)


def the_object(done: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    """The one object on the standard output."""
    assert done.returncode == code, done.stderr[-3000:]
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A store that was adopted with `--json`, and what the command said."""
    path = tmp_path_factory.mktemp("json")
    gallery = write_gallery(path / "gallery", fashion_vectors(600), 2)
    done = fct_ray("adopt", "--json", "--store", path / "store", "--embeddings", gallery, "--encoder", "old-api")
    return path / "store", done


def test_a_job_prints_what_its_report_json_holds(store: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, done = store
    content = the_object(done, 0)
    (report,) = path.glob("runs/*/report/report.json")
    assert content == json.loads(report.read_text())
    assert f"report: {report}" in done.stderr
    assert "Work per stage" in done.stderr


@pytest.mark.parametrize("order", [("--json", "store"), ("store", "--json")])
def test_looking_at_a_store_gives_its_facts(
    store: tuple[Path, subprocess.CompletedProcess[str]], order: tuple[str, str]
) -> None:
    path, _ = store
    content = the_object(fct_ray(*order, "status", "--store", path), 0)
    assert (content["store"], content["version"], content["rows"], content["shards"]) == (str(path), 1, 600, 2)
    versions = the_object(fct_ray("store", "history", "--store", path, "--json"), 0)["versions"]
    assert [version["version"] for version in versions] == [1]
    assert the_object(fct_ray("store", "gc", "--store", path, "--json"), 0)["dry_run"] is True


@pytest.mark.parametrize(
    ("arguments", "kind", "word"),
    [
        (("store", "status", "--store", "/nowhere/at/all"), "NotFoundError", "/nowhere/at/all"),
        (("search", *SEARCH, "--k", "0"), "SettingsError", "--k is 0"),
        (("search", "--stoer", "s"), "SettingsError", "--stoer"),
        (("upgarde",), "SettingsError", "no verb 'upgarde'"),
        (("append", *APPEND, "--cluster.address", "127.0.0.1:1"), "SettingsError", "no Ray cluster can be joined at"),
    ],
)
def test_a_refusal_is_an_object_with_the_error_its_type_and_the_exit_code(
    arguments: tuple[str, ...], kind: str, word: str
) -> None:
    done = fct_ray(*arguments, "--json")
    content = the_object(done, 2)
    assert (content["type"], content["exit_code"]) == (kind, 2)
    assert word in content["error"]
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert fct_ray(*arguments).stdout.strip() == ""


@pytest.mark.journey
def test_a_damaged_version_is_told_with_its_report(
    store: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    path, _ = store
    (shard,) = (path.parent / "gallery").glob("part-001.parquet")
    whole = shard.read_bytes()
    try:
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 0xFF]))
        content = the_object(fct_ray("store", "verify", "--store", path, "--report-dir", tmp_path, "--json"), 2)
    finally:
        shard.write_bytes(whole)
    assert content["type"] == "FormatError"
    assert content["report"] == json.loads((tmp_path / "report.json").read_text())
    assert any("problem" in note for note in content["report"]["notes"])
