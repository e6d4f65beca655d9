"""What is imported: the package alone is nearly free, and whoever only searches pays for neither torch nor Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.model_files import pack_model
from fct_ray.shards.model_directory import save_model
from tests.conftest import ROOT
from tests.fuzz.small_store import D, make_store

HEAVY = {"torch", "torchvision", "ray", "matplotlib", "s3fs", "pandas"}


def _imported(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a new process has loaded after running `code`."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.split())


def test_the_package_alone_imports_nothing_that_is_not_in_the_standard_library() -> None:
    assert not _imported("import fct_ray") & (HEAVY | {"numpy", "pyarrow", "faiss", "pydantic"})


@pytest.mark.parametrize("command", ["search", "store"])
def test_commands_that_compute_nothing_import_nothing_heavy(command: str) -> None:
    assert not _imported(f"import fct_ray.cli.commands.{command}") & (HEAVY - {"ray"})


def test_searching_imports_neither_torch_nor_ray_however_the_encoder_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    architecture = EncoderArchitecture(
        backbone="small_cnn-4", dimension=D, channels_in=1, image_size=12, mean=(0.3,), std=(0.4,)
    )
    packed = pack_model(Encoder(architecture), kind="encoder", name="own", provenance={})
    directory = save_model(str(store / "models"), packed)
    code = f"""
import sys
import numpy as np
from fct_ray.errors import EncoderMismatchError
from fct_ray.workflows.search import open_searcher

store, directory = sys.argv[1:]
searcher = open_searcher(store, "now-api")
scores, ids = searcher.search(np.ones((2, {D}), dtype=np.float32), 3)
assert ids.shape == (2, 3) and (ids >= 0).all()
for name in (directory, "own", "tests.models.own_encoders:length_encoder"):
    try:
        open_searcher(store, name)
    except EncoderMismatchError:
        pass
    else:
        raise AssertionError(name)
"""
    assert not _imported(code, str(store), directory) & HEAVY
