"""Synthetic cases: items with latent numbers, of which old, side-information and new each see a part.

    item   = [class centre + own content (CONTENT numbers)]
    view   = [content + a little noise, nuisance (NUISANCE numbers, drawn anew for each view)]
    vector = unit(tanh(GAIN * [content * what the model sees, nuisance * what it lets through] @ a random matrix))

A query is another view of a gallery item: it must find that item (known-item), or items of its class (similar). The old
model sees few content numbers and lets nuisance through; side-information sees others, as blurred; the new model sees
nearly all, hardly disturbed. So new > old on both tasks; no map can bring back what old does not see, and side-information
holds a part of it. Made in batches of seeded draws, so that a row does not depend on how many follow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.reference import unit, with_known
from fct_ray.errors import SettingsError
from fct_ray.settings import CheckedSettings, Count, Positive, Seed

FloatArray = npt.NDArray[np.float32]
CONTENT, NUISANCE = 32, 96
GAIN = 3.0
"""Strength of the nonlinearity: a linear map of old alone to new then loses what doing nothing finds."""
BATCH = 20_000
VERDICT = (
    "the new model is better on both tasks; old alone does not hold what a map would need, with side-information a map or "
    "fused search gains: see what was measured"
)
CENTRES, GALLERY, ASKED, VIEWS, PAIRS = range(5)
"""Purposes of the seeded streams of numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What a model sees."""

    first: int
    """The first content number that it sees well."""
    last: int
    """One after the last."""
    elsewhere: float
    """How strongly it sees the other content numbers."""
    nuisance: float
    """How strongly nuisance shows."""


OLD = Sight(first=0, last=16, elsewhere=0.05, nuisance=0.2)
SIDE = Sight(first=18, last=32, elsewhere=0.05, nuisance=0.5)
NEW = Sight(first=0, last=32, elsewhere=1.0, nuisance=0.12)


@dataclass(frozen=True, kw_only=True)
class LatentSettings(CheckedSettings):
    """The size of a synthetic case."""

    num_rows: Count = 200_000
    """Rows of the gallery."""
    num_pairs: Count = 2_000
    """Rows that are embedded by the new model."""
    num_queries: Count = 2_000
    """Other views of gallery items that are no pairs."""
    num_classes: Count = 200
    """Classes."""
    dimension: Count = 128
    """Numbers of every vector."""
    view_noise: Positive = 0.75
    """Standard deviation of the content between two views of one item; items of a class differ by 1."""
    with_side: bool = True
    """Whether the gallery has side-information."""
    task: CaseTask = CaseTask.KNOWN_ITEM
    """What the index is asked for."""
    data_seed: Seed = 0
    """Seed of everything."""


class Model:
    """A frozen random model with a limited sight."""

    def __init__(self, sight: Sight, dimension: int, rng: np.random.Generator) -> None:
        content = np.full(CONTENT, sight.elsewhere, np.float32)
        content[sight.first : sight.last] = 1
        self._scale = np.concatenate([content, np.full(NUISANCE, sight.nuisance, np.float32)])
        matrix = rng.normal(size=(len(self._scale), dimension)) / np.sqrt((self._scale**2).sum())
        self._matrix = matrix.astype(np.float32)

    def __call__(self, views_N: FloatArray) -> FloatArray:
        """Unit vectors [N, D] of views [N, CONTENT + NUISANCE]."""
        return unit(np.tanh(GAIN * ((views_N * self._scale) @ self._matrix)))


def make_latent(name: str, settings: LatentSettings) -> CaseData:
    """A synthetic case.

    Raises:
        SettingsError: more pairs and queries than rows.
    """
    if settings.num_pairs + settings.num_queries > settings.num_rows:
        raise SettingsError(
            f"{settings.num_pairs} pairs and {settings.num_queries} queries of {settings.num_rows} rows"
        )
    rng = _rng(settings, CENTRES, 0)
    centres = rng.normal(size=(settings.num_classes, CONTENT)).astype(np.float32)
    models = [Model(sight, settings.dimension, rng) for sight in (OLD, SIDE, NEW)]
    labels_N, content_NC = _items(settings, centres)
    old_NO, side_NS, new_NW = (
        np.concatenate([model(_views(settings, content_NC, start)) for start in range(0, settings.num_rows, BATCH)])
        for model in models
    )
    order_N = _rng(settings, PAIRS, 0).permutation(settings.num_rows)
    asked_Q = np.sort(order_N[: settings.num_queries])
    noise = _rng(settings, ASKED, 0)
    queries_Q = np.concatenate(
        [
            content_NC[asked_Q] + settings.view_noise * noise.standard_normal((len(asked_Q), CONTENT), np.float32),
            noise.standard_normal((len(asked_Q), NUISANCE), np.float32),
        ],
        axis=1,
    )
    old_QO, side_QS, new_QW = (model(queries_Q) for model in models)
    case = CaseData(
        name=name,
        task=settings.task,
        old_NO=old_NO,
        new_NW=new_NW,
        side_NS=side_NS if settings.with_side else None,
        labels_N=labels_N,
        pair_ids_P=np.sort(order_N[settings.num_queries :][: settings.num_pairs]),
        queries=Queries(
            old_QO=old_QO,
            new_QW=new_QW,
            side_QS=side_QS if settings.with_side else None,
            labels_Q=labels_N[asked_Q],
            relevant=tuple((int(row),) for row in asked_Q),
        ),
        known={},
        sources={"data": "synthetic, see the maker", "settings": asdict(settings)},
    )
    return with_known(case, VERDICT)


def _items(settings: LatentSettings, centres: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Labels [N] and content [N, CONTENT]."""
    labels, contents = [], []
    for start in range(0, settings.num_rows, BATCH):
        rng = _rng(settings, GALLERY, start)
        labels_B = rng.integers(0, settings.num_classes, BATCH)
        labels.append(labels_B)
        contents.append(centres[labels_B] + rng.standard_normal((BATCH, CONTENT), np.float32))
    return np.concatenate(labels)[: settings.num_rows], np.concatenate(contents)[: settings.num_rows]


def _views(settings: LatentSettings, content_NC: FloatArray, start: int) -> FloatArray:
    """The gallery's views of a batch of items."""
    content_BC = content_NC[start : start + BATCH]
    nuisance_BU = _rng(settings, VIEWS, start).standard_normal((BATCH, NUISANCE), np.float32)
    return np.concatenate([content_BC, nuisance_BU[: len(content_BC)]], axis=1)


def _rng(settings: LatentSettings, purpose: int, batch: int) -> np.random.Generator:
    return np.random.default_rng((settings.data_seed, purpose, batch))
