"""The wheel, installed into an environment outside of the checkout: every verb, the price book, the types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from fct_ray.cli.main import VERBS
from tests.conftest import ROOT

SHIPPED = ("fct_ray", "cluster", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; this one's other packages are lent to it."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in SHIPPED:  # a copy, so that building leaves nothing in the checkout
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, source / name)
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", work, source)
    _run(sys.executable, "-m", *build)
    (wheel,) = work.glob("*.whl")
    environment = work / "environment"
    venv.create(environment, with_pip=False)
    packages = next(environment.glob("lib/python*/site-packages"))
    _run(sys.executable, "-m", "pip", "--python", environment, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment


def _run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return str(done.stdout)


def _outside(installed: Path, directory: Path, *command: object) -> str:
    """Run a command of the environment in another directory, without the checkout on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return _run(installed / "bin" / str(command[0]), *command[1:], cwd=directory, env=environment)


def test_the_package_comes_from_the_wheel_with_its_price_book_and_types(installed: Path, tmp_path: Path) -> None:
    code = (
        "import fct_ray, pathlib; from fct_ray.cli.price_book import load_price_book;"
        "root = pathlib.Path(fct_ray.__file__).parent; print(root, (root / 'py.typed').is_file(), load_price_book().date)"
    )
    root, typed, date = _outside(installed, tmp_path, "python", "-c", code).split()
    assert Path(root).is_relative_to(installed)
    assert typed == "True"
    assert f"date: {date}" in (ROOT / "cluster/prices.yaml").read_text().replace('"', "").replace("'", "")


def test_every_verb_explains_itself_under_the_name_that_was_typed(installed: Path, tmp_path: Path) -> None:
    verbs = _outside(installed, tmp_path, "fct-ray")
    for verb in VERBS:
        assert f"\n  {verb} " in verbs
    assert "usage: fct-ray upgrade" in _outside(installed, tmp_path, "fct-ray", "upgrade", "--help")
    assert "usage: fct-ray adopt" in _outside(installed, tmp_path, "fct-ray", "adopt", "--help")
    assert "usage: fct-ray store status" in _outside(installed, tmp_path, "fct-ray", "store", "status", "--help")


@pytest.mark.journey
def test_a_plan_is_priced_by_the_book_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    from tests.fashion_vectors import fashion_vectors, write_gallery, write_pairs

    vectors = fashion_vectors(6000)
    gallery, pairs = write_gallery(tmp_path / "gallery", vectors, 2), write_pairs(tmp_path / "p.parquet", vectors, 500)
    adopt = ("adopt", "--store", "store", "--embeddings", gallery, "--encoder", "old-api")
    _outside(installed, tmp_path, "fct-ray", *adopt)
    plan = ("upgrade", "--store", "store", "--encoder", "new-api", "--pairs", pairs, "--plan")
    assert "m7i.large on demand at $0.1008 an hour" in " ".join(_outside(installed, tmp_path, "fct-ray", *plan).split())


def test_the_versions_of_python_are_those_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if "Python :: 3." in line]
    assert project["requires-python"] == f">={named[0]},<3.{int(named[-1].split('.')[1]) + 1}"
