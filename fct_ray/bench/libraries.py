"""Our code beside the libraries that could take its place: CPU time, whether a seed repeats the bits, what importing costs.

    python -m fct_ray.bench.libraries imports|ridge|augment|settings

Owns: these comparisons; what follows from them is in docs/libraries.md. The libraries that we do not use are not
installed with this package: `pip install scikit-learn kornia omegaconf jsonargparse humanize pint`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fct_ray.errors import SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.augmentation import SIMCLR, augmented
from fct_ray.models.ridge import L2_GRID, fit_ridge
from fct_ray.models.seeding import generator

CANDIDATES = (
    *("yaml", "tyro", "omegaconf", "jsonargparse", "humanize", "pint", "scipy.special", "scipy.stats"),
    *("sklearn.linear_model", "torch", "torchvision.transforms.v2", "kornia.augmentation", "tenacity", "tqdm"),
)
IMAGES = 256
PAIRS, INPUTS, OUTPUTS = 4_000, 256, 128


def imports() -> Iterator[str]:
    """CPU seconds that each candidate takes to import in a new process, the interpreter's own start left out."""
    code = "import time; start_s = time.process_time(); import {0}; print(time.process_time() - start_s)"
    for name in CANDIDATES:
        command = [sys.executable, "-c", code.format(name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        yield f"{name}: {float(done.stdout):.2f} s" if done.returncode == 0 else f"{name}: not installed"


def ridge() -> Iterator[str]:
    """The linear control with eight penalties: one eigendecomposition of ours, eight fits of scikit-learn, RidgeCV."""
    from sklearn.linear_model import Ridge, RidgeCV

    rng = np.random.default_rng(0)
    inputs_NI = rng.normal(size=(PAIRS, INPUTS))
    targets_NW = inputs_NI @ rng.normal(size=(INPUTS, OUTPUTS)) + rng.normal(size=(PAIRS, OUTPUTS))
    alphas = np.maximum(L2_GRID, 1e-9) * np.square(inputs_NI - inputs_NI.mean(axis=0)).sum() / INPUTS
    ours = fit_ridge(inputs_NI, targets_NW, normalized=True)
    again = fit_ridge(inputs_NI, targets_NW, normalized=True)
    theirs = Ridge(alpha=ours.l2 * float(alphas[-1] / L2_GRID[-1])).fit(inputs_NI, targets_NW)
    yield f"bits repeat: {np.array_equal(ours.weights_IW, again.weights_IW)}"
    yield f"largest difference of a weight from scikit-learn's: {np.abs(theirs.coef_.T - ours.weights_IW).max():.1e}"
    yield _timed("ours", lambda: fit_ridge(inputs_NI, targets_NW, normalized=True))
    yield _timed("Ridge, a fit for each penalty", lambda: [Ridge(alpha=a).fit(inputs_NI, targets_NW) for a in alphas])
    yield _timed("RidgeCV", lambda: RidgeCV(alphas=alphas).fit(inputs_NI, targets_NW))


def augment() -> Iterator[str]:
    """A SimCLR view of every image of a batch, each with draws of its own; torchvision draws once for a batch."""
    from kornia import augmentation as kornia
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    for channels, side in ((1, 28), (3, 64)):
        images, size = torch.rand(IMAGES, channels, side, side), (side, side)
        colours = channels == 3
        theirs = v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.2, 1.0), antialias=False),
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(10),
                v2.ColorJitter(0.4, 0.4, 0.4 * colours, 0.1 * colours),
            ]
        )
        chain = kornia.AugmentationSequential(
            kornia.RandomResizedCrop(size, scale=(0.2, 1.0)),
            kornia.RandomHorizontalFlip(),
            kornia.RandomRotation(10.0),
            *([kornia.ColorJiggle(0.4, 0.4, 0.4, 0.1)] if colours else []),
            *([kornia.RandomGrayscale(p=0.2)] if colours else [kornia.RandomBrightness((0.6, 1.4))]),
            data_keys=["input"],
        )
        ways: dict[str, Callable[[torch.Tensor], Any]] = {
            "ours": partial(augmented, settings=SIMCLR, generator=generator(0)),
            "kornia": chain,
            "torchvision": partial(_one_by_one, theirs),
        }
        for name, way in ways.items():
            yield _timed(f"{IMAGES} images {channels}x{side}x{side}: {name}", partial(way, images))


def _one_by_one(transform: Callable[[torch.Tensor], torch.Tensor], images_NCHW: torch.Tensor) -> torch.Tensor:
    return torch.stack([transform(image) for image in images_NCHW])


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Settings within settings."""

    epochs: int = 3
    flip: bool = True


@dataclass(frozen=True, kw_only=True)
class Example:
    """Settings as our jobs have them."""

    store: str
    metric: Metric | None = None
    nested: Nested = field(default_factory=Nested)


def settings() -> Iterator[str]:
    """What libraries make of settings files: plain, without what the command line adds, asking for the environment."""
    from jsonargparse import ArgumentParser
    from omegaconf import OmegaConf

    def omega(path: str) -> Any:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Example), OmegaConf.load(path)))

    def jsonargparse(path: str) -> Any:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Example)
        parser.add_argument("--config", action="config")
        return parser.parse_args(["--config", path])

    with TemporaryDirectory() as directory:
        for text in (
            "{store: a, metric: l2, nested: {flip: false}}",
            "{nested: {epochs: 5}}",  # `store` is to come from the command line
            "{store: '${oc.env:PATH}'}",
        ):
            path = Path(directory) / "settings.yaml"
            path.write_text(text)
            for read in (omega, jsonargparse):
                yield f"{text} {read.__name__}: {_outcome(read, str(path))}"


def _outcome(read: Callable[[str], Any], path: str) -> str:
    try:
        return f"{read(path)}"[:120]
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises is what is asked
        return f"refused, {type(error).__name__}: {error}".replace("\n", " ")[:120]


def _timed(what: str, work: Callable[[], Any]) -> str:
    """Median CPU time of five calls after one that is thrown away."""
    work()
    taken_s = []
    for _ in range(5):
        start_s = time.process_time()
        work()
        taken_s.append(time.process_time() - start_s)
    return f"{what}: {sorted(taken_s)[2] * 1e3:.1f} ms of CPU"


COMPARISONS = {one.__name__: one for one in (imports, ridge, augment, settings)}


def main(names: list[str]) -> None:
    """Print the comparisons with these names."""
    if not names or set(names) - set(COMPARISONS):
        raise SettingsError(f"{names} are not comparisons; want some of {', '.join(COMPARISONS)}")
    for name in names:
        for line in COMPARISONS[name]():
            sys.stdout.write(f"{name}: {line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
