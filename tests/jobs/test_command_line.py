"""Settings from YAML and the command line: one parser for both, typos are refused, the command line wins."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fct_ray.cli.command_line import flags_of_yaml, parse_settings
from fct_ray.errors import SettingsError
from fct_ray.kinds import Metric
from fct_ray.settings import CheckedSettings
from tests.conftest import ROOT


@dataclass(frozen=True, kw_only=True)
class Inner(CheckedSettings):
    """Nested settings."""

    epochs: int = 3
    """Passes."""
    flip: bool = True
    """Mirror."""


@dataclass(frozen=True, kw_only=True)
class Outer(CheckedSettings):
    """Settings of a job."""

    store: str
    """Where."""
    metric: Metric | None = None
    """How."""
    inner: Inner = field(default_factory=Inner)
    """More."""


def _yaml(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_is_read_and_the_command_line_overrides_it(tmp_path: Path) -> None:
    file = _yaml(tmp_path / "s.yaml", "store: a b\nmetric: l2\ninner: {epochs: 5, flip: false}\n")
    settings = parse_settings(Outer, ["--config", file, "--inner.epochs", "7"], None)
    assert settings == Outer(store="a b", metric=Metric.L2, inner=Inner(epochs=7, flip=False))


def test_a_required_setting_may_come_from_either(tmp_path: Path) -> None:
    file = _yaml(tmp_path / "s.yaml", "inner: {epochs: 5}\n")
    assert parse_settings(Outer, ["--store", "s3://b/s", "--config", file], None).inner.epochs == 5


@pytest.mark.parametrize("text", ["stoer: a\n", "store: a\ninner: {epoch: 5}\n", "store: a\ninner: {epochs: many}\n"])
def test_a_typo_or_a_wrong_type_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        parse_settings(Outer, ["--config", _yaml(tmp_path / "s.yaml", text)], None)
    assert refusal.value.code == 2


def test_a_file_that_is_not_a_mapping_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="mapping"):
        flags_of_yaml(Path(_yaml(tmp_path / "s.yaml", "- a\n- b\n")))
    with pytest.raises(SettingsError, match="No such file"):
        flags_of_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    "tasks", ["shards.stored_rows", "shards.edited_shard", "shards.shard_check", "shards.unique_ids"]
)
def test_tasks_that_compute_nothing_start_without_torch_ray_data_and_s3fs(tasks: str) -> None:
    code = f"import sys, fct_ray.{tasks}; print({{'torch', 'ray.data', 's3fs'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_looking_at_a_local_store_loads_neither_torch_nor_ray_data_nor_matplotlib_nor_s3fs() -> None:
    heavy = {"torch", "ray.data", "matplotlib", "s3fs"}
    code = f"import runpy, sys; runpy.run_path('jobs/store.py'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
