"""What holds for every file in cluster/, also for those that are added later: Ray starts with token authentication only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
STARTS_RAY = re.compile(r"\bray (?:start|up)\b|kind: Ray(?:Cluster|Job|Service)\b")


def without_token(text: str) -> list[str]:
    """The starts of Ray in a file's text that nothing gives token authentication."""
    found = []
    for document in yaml.safe_load_all(text):
        for name, commands in document.items():
            if name.endswith("start_ray_commands"):
                found += [c for c in commands if "ray start" in c and "RAY_AUTH_MODE=token" not in c]
        for cluster in _ray_clusters(document):
            if cluster.get("authOptions") != {"mode": "token"}:
                found.append(f"authOptions: {cluster.get('authOptions')}")
    return found


def _ray_clusters(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [cluster for inner in node for cluster in _ray_clusters(inner)]
    if not isinstance(node, dict):
        return []
    own = [node] if "headGroupSpec" in node else []
    return own + [cluster for inner in node.values() for cluster in _ray_clusters(inner)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_every_file_that_starts_ray_has_token_authentication_on(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"RAY_AUTH_MODE\s*[=:]\s*[\"']?(?!token\b)\w|mode:\s*disabled", text)
    if path.suffix in {".yaml", ".yml"}:
        assert without_token(text) == []
    elif STARTS_RAY.search(text):
        assert "RAY_AUTH_MODE=token" in text


def test_the_two_ways_to_start_ray_are_among_them() -> None:
    started = {path.name for path in FILES if STARTS_RAY.search(path.read_text())}
    assert {"aws.yaml", "kuberay-rayjob.yaml"} <= started


@pytest.mark.parametrize(
    ("name", "written", "instead"),
    [
        ("aws.yaml", "export RAY_AUTH_MODE=token; ulimit -n 65536; ray start --address", "ray start --address"),
        ("kuberay-rayjob.yaml", "authOptions:", "authentication:"),
        ("kuberay-rayjob.yaml", "mode: token", "mode: none"),
    ],
)
def test_a_start_without_the_token_would_be_noticed(name: str, written: str, instead: str) -> None:
    text = (CLUSTER / name).read_text()
    assert written in text
    assert without_token(text.replace(written, instead))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|AWS_SECRET|AWS_ACCESS|BEGIN [A-Z ]*PRIVATE KEY|RAY_AUTH_TOKEN\s*[=:]", text)
    assert not re.search(r"\b[0-9a-f]{32,}\b", text)
