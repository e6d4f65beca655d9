"""The data that every pipeline reads: seeded shards of (id, embedding, side_info), pairs, and a reference h.

    <directory>/shards/part-00000.parquet ...   N rows, int64 id, float32 [old] and [side]
    <directory>/pairs.parquet                   (id, embedding) of the new model for a sample
    <directory>/models/, h.txt                  the transformation that the pipelines apply, and which it is

Vectors come from 32 latent numbers per row, of which old and side each keep a part and new keeps all, so that h can be
fitted on the pairs; speed does not depend on it. Shards are made one at a time: memory does not grow with N.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from fct_ray.models.blocks import block, join_blocks
from fct_ray.models.model_files import pack_model
from fct_ray.models.seeding import seed_everything
from fct_ray.models.transformation import AnyTransformation, Transformation, TransformationArchitecture
from fct_ray.models.whitening import Affine
from fct_ray.settings import CheckedSettings, Count, CountOrZero, Seed
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.shards.model_directory import save_model
from fct_ray.storage import objects, shards
from fct_ray.storage import pairs as pair_files

FloatArray = npt.NDArray[np.float32]
LATENT, CLASSES = 32, 200
OLD_NAME, SIDE_NAME, NEW_NAME = "bench-old", "bench-side", "bench-new"


class BenchWay(StrEnum):
    """What the pipelines do to a row."""

    H = "h"
    """The reference h."""
    WHITENED = "whitened"
    """The old vector, centred and whitened."""
    FUSED = "fused"
    """The reference h, joined with both whitened stored vectors."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(CheckedSettings):
    """The data of a benchmark."""

    rows: Count = 200_000
    """Rows of the gallery."""
    rows_per_shard: Count = 20_000
    """Rows per Parquet object."""
    old_dimension: Count = 128
    """Dimensions of the old embedding."""
    side_dimension: CountOrZero = 128
    """Dimensions of the side-information."""
    new_dimension: Count = 128
    """Dimensions of the new embedding."""
    inner: Count = 2048
    """Inner width of the reference h (the paper's is 2048)."""
    way: BenchWay = BenchWay.H
    """What every row goes through."""
    num_pairs: Count = 20_000
    """Rows of the pairs file."""
    data_seed: Seed = 0
    """Seed of all of it."""

    @property
    def reads_side(self) -> bool:
        """Whether what every row goes through reads side-information."""
        return self.side_dimension > 0 and self.way is not BenchWay.WHITENED


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Where the data is."""

    directory: str
    settings: DatasetSettings

    @property
    def shards_directory(self) -> str:
        """Parquet objects of the gallery."""
        return f"{self.directory}/shards"

    @property
    def pairs(self) -> str:
        """The pairs file."""
        return f"{self.directory}/pairs.parquet"

    @property
    def transformation(self) -> str:
        """The reference h's model directory."""
        return (Path(self.directory) / "h.txt").read_text()


def make_dataset(root: str, settings: DatasetSettings) -> Dataset:
    """The data set of these settings below `root`, made if it is not there; other leftovers there are removed."""
    name = "-".join(f"{key[:3]}{value}" for key, value in asdict(settings).items())
    directory = Path(root).absolute() / name
    dataset, done = Dataset(directory=str(directory), settings=settings), directory / "settings.json"
    if done.is_file():
        return dataset
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "shards").mkdir(parents=True)
    maker = _Maker(settings)
    pair_ids, pair_vectors = [], []
    starts = range(0, settings.rows, settings.rows_per_shard)
    for number, start in enumerate(tqdm(starts, "make data", unit="shard", disable=None)):
        rows = min(settings.rows_per_shard, settings.rows - start)
        ids_N = np.arange(start, start + rows, dtype=np.int64)
        old_NO, side_NS, new_NW = maker.rows(number, rows)
        table = shards.build_table(ids_N, old_NO, side_NS, {})
        objects.write_bytes(f"{dataset.shards_directory}/part-{number:05d}.parquet", shards.encode_table(table))
        share = settings.num_pairs * (start + rows) // settings.rows - settings.num_pairs * start // settings.rows
        picked = np.sort(maker.rng(number, 1).choice(rows, min(rows, share), replace=False))
        pair_ids.append(ids_N[picked])
        pair_vectors.append(new_NW[picked])
    pairs = shards.build_table(np.concatenate(pair_ids), np.concatenate(pair_vectors), None, {})
    pair_files.write_table(dataset.pairs, pairs)
    (directory / "h.txt").write_text(_reference_transformation(settings, str(directory / "models")))
    done.write_text(json.dumps(asdict(settings), indent=1))
    return dataset


class _Maker:
    def __init__(self, settings: DatasetSettings) -> None:
        self.settings = settings
        rng = self.rng(0, 0)
        self.centres = rng.normal(size=(CLASSES, LATENT)).astype(np.float32)
        dimensions = (settings.old_dimension, settings.side_dimension, settings.new_dimension)
        self.maps = [rng.normal(size=(LATENT, dimension)).astype(np.float32) for dimension in dimensions]

    def rng(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.data_seed, number, purpose))

    def rows(self, number: int, rows: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        rng = self.rng(number, 2)
        latent = self.centres[rng.integers(0, CLASSES, rows)] + rng.normal(size=(rows, LATENT)).astype(np.float32)
        half = LATENT // 2
        weak = np.float32(0.1)
        keep_old = np.r_[np.ones(half, np.float32), np.full(half, weak)]
        old, side, new = (
            _unit(np.tanh((latent * keep) @ matrix))
            for keep, matrix in zip((keep_old, keep_old[::-1], np.float32(1.0)), self.maps, strict=True)
        )
        return old, side, new


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _reference_transformation(settings: DatasetSettings, models: str) -> str:
    """H with random weights and BatchNorm statistics: what it computes does not matter to speed."""
    seed_everything(settings.data_seed)
    architecture = TransformationArchitecture(
        old_dimension=settings.old_dimension,
        side_dimension=settings.side_dimension,
        new_dimension=settings.new_dimension,
        inner=settings.inner,
    )
    h = Transformation(architecture).eval()
    for part in h.modules():
        if isinstance(part, torch.nn.BatchNorm1d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    module = _way(settings, h)
    packed = pack_model(
        module,
        kind="transformation",
        name="bench-h",
        provenance={"weights": "random", "seed": settings.data_seed},
        from_encoder=resolve_encoder(OLD_NAME, None).ref.fingerprint,
        to_encoder=resolve_encoder(NEW_NAME, None).ref.fingerprint,
        side_fingerprint=resolve_encoder(SIDE_NAME, None).ref.fingerprint if settings.reads_side else None,
    )
    return save_model(models, packed)


def _way(settings: DatasetSettings, h: Transformation) -> AnyTransformation:
    """H alone, or joined blocks whose whitening is random: what it computes does not matter to speed."""
    if settings.way is BenchWay.H:
        return h
    rng = np.random.default_rng(settings.data_seed)

    def whitened(dimension: int) -> Affine:
        return Affine(mean_D=rng.normal(size=dimension) / 10, projection_DP=rng.normal(size=(dimension, dimension)))

    old = whitened(settings.old_dimension)
    if settings.way is BenchWay.WHITENED:
        return join_blocks([block("old", 1.0, old)])
    side = whitened(settings.side_dimension)
    return join_blocks([block("h", 0.5, h), block("old", 0.25, old), block("side", 0.25, side)])
