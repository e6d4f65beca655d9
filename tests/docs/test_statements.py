"""What the documentation names exists: commands with their settings, files, links, make targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fct_ray.cli.command_line import flags_of_yaml, parse_settings
from fct_ray.cli.commands import compare, doctor, embed, export, fit, search, store, upgrade

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
SETTINGS: Mapping[tuple[str, ...], type[Any]] = {
    ("upgrade",): upgrade.Settings,
    ("fit", "old"): fit.FitEncoder,
    ("fit", "new"): fit.FitEncoder,
    ("fit", "side"): fit.FitSide,
    ("fit", "transformation"): fit.FitTransformation,
    ("adopt",): embed.Adopt,
    ("import",): embed.Import,
    ("backfill",): embed.Backfill,
    ("append",): embed.Append,
    ("delete",): embed.Delete,
    ("search",): search.Settings,
    ("compare",): compare.Settings,
    ("doctor",): doctor.Settings,
    ("export",): export.Settings,
    ("store", "status"): store.Look,
    ("store", "history"): store.Look,
    ("store", "verify"): store.Verify,
    ("store", "rollback"): store.Rollback,
    ("store", "gc"): store.Collect,
}
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_JOB = re.compile(r"^.*jobs/(\w+)\.py")


def commands() -> list[str]:
    """Every `fct-ray ...` of the shell blocks and of backticks with settings, without continuation lines."""
    found = []
    for page in PAGES.values():
        lines = "".join(_BLOCK.findall(page)).replace("\\\n", " ").splitlines()
        lines += re.findall(r"`(fct-ray [a-z ]+--[^`]+)`", page)
        for line in lines:
            found += [
                part.strip() for part in re.split(r"&&|(?<!-)-- ", line) if re.search(r"fct-ray |jobs/upgrade", part)
            ]
    return sorted({re.sub(r"^.*?(fct-ray|python \S*jobs/upgrade.py)", r"\1", part) for part in found})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documentation_has_only_settings_that_exist(command: str) -> None:
    arguments = shlex.split(command.partition("  #")[0].replace("$S", "s3://bucket/gallery"))
    arguments = ["upgrade", *arguments[2:]] if "jobs/upgrade.py" in command else arguments[1:]
    verb = tuple(arguments[:2]) if tuple(arguments[:2]) in SETTINGS else tuple(arguments[:1])
    rest = [argument for argument in arguments[len(verb) :] if argument != "--json"]  # which every verb has
    if "--config" in rest:
        place = rest.index("--config")
        rest = rest[:place] + rest[place + 2 :]
    parse_settings(SETTINGS[verb], rest, None)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 25


def test_the_yaml_example_has_only_settings_that_exist(tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGES["docs/reference/settings.md"], re.DOTALL)[0]
    (tmp_path / "upgrade.yaml").write_text(text)
    settings = parse_settings(upgrade.Settings, flags_of_yaml(tmp_path / "upgrade.yaml"), None)
    assert settings.pool.max_actors == 32
    assert settings.pricing.spot


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:fct_ray|tests|jobs|cluster|docs)/[\w./-]*)`", PAGES[page])
    named += re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGES[page])
    here = (ROOT / page).parent
    missing = [name for name in named if not ((ROOT / name).exists() or (here / name).exists())]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_a_page_names_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z][a-z0-9 -]*)", PAGES[page], re.MULTILINE)
    assert {word for names in named for word in names.split("  ")[0].split()} <= targets


def test_the_readme_names_the_command_that_runs_the_tests() -> None:
    assert "make test" in PAGES["README.md"]
    assert "make test" in (ROOT / ".ci" / "run").read_text()
