"""Galleries by one model and by two, of which it is known which rows are whose: what `doctor` is measured on.

    gallery = KINDS["nested"].make(seed, share, NUM_ROWS)      share 0: one model alone

Synthetic ones: items are centres of clusters plus own content, in a latent space whose axes have falling variances. A model
is an orthogonal matrix, a mean that all its vectors share, and maybe lengths or scales of its own; two models see different
items of the same clusters. Photos: two small networks, or two linear encoders, of Fashion-MNIST.
Array legend: N rows, D numbers of a vector, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fct_ray.bench.photo_models import linear_vectors, network_vectors

FloatArray = npt.NDArray[np.float32]
NUM_ROWS = 3_000
FLOOR = 0.02
"""Noise on every axis, as a part of the first axis: what rounding, dropout or a wide last layer leave."""


class Relation(StrEnum):
    """How the second model differs from the first."""

    ROTATION = "rotation"
    """Another orthogonal matrix, and another mean where there is one."""
    SCALES = "scales"
    """The same axes with other variances."""
    MEAN = "mean"
    """The same matrix with another mean."""
    LENGTHS = "lengths"
    """Another orthogonal matrix, and vectors three times as long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthetic:
    """A family of synthetic galleries."""

    clusters: int = 100
    """0: no clusters."""
    spread: float = 0.3
    """Own content of an item over that of the centres."""
    decay: float = 0.6
    """Standard deviation of axis j is (j + 1) ** -decay; 0: all axes are alike."""
    dimension: int = 128
    mean: float = 0.0
    """Length of the common mean over the usual length of an item."""
    normalized: bool = True
    uneven: bool = False
    """Sizes of clusters fall like 1 / rank."""
    nested: bool = False
    """Clusters lie in eight large topics."""
    relation: Relation = Relation.ROTATION

    def make(self, seed: int, share: float, num_rows: int) -> FloatArray:
        """Vectors [N, D] in random order, `share` of them by the second model."""
        rng = np.random.default_rng((seed, 7))
        scales_D = (np.arange(self.dimension) + 1.0) ** -self.decay
        content_ND = self._content(rng, num_rows) * scales_D
        second_N = rng.random(num_rows) < share
        length = np.linalg.norm(content_ND, axis=1).mean()
        first = self._matrix(rng), self._mean(rng, length)
        second = self._matrix(rng), self._mean(rng, length)
        vectors_ND = content_ND @ first[0] + first[1]
        others_ND = content_ND[second_N]
        if self.relation is Relation.SCALES:
            vectors_ND[second_N] = (others_ND / scales_D * rng.permutation(scales_D)) @ first[0] + first[1]
        elif self.relation is Relation.MEAN:
            vectors_ND[second_N] = others_ND @ first[0] + second[1]
        else:
            factor = 3.0 if self.relation is Relation.LENGTHS else 1.0
            vectors_ND[second_N] = factor * (others_ND @ second[0] + second[1])
        if self.normalized:
            vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        return np.asarray(vectors_ND, np.float32)

    def _content(self, rng: np.random.Generator, num_rows: int) -> npt.NDArray[np.float64]:
        own_ND = rng.standard_normal((num_rows, self.dimension))
        noise_ND = FLOOR * rng.standard_normal((num_rows, self.dimension))
        if not self.clusters:
            return np.asarray(own_ND + noise_ND)
        centres_KD = rng.standard_normal((self.clusters, self.dimension))
        if self.nested:
            topics = rng.standard_normal((8, self.dimension))
            centres_KD = 0.8 * topics[rng.integers(0, 8, self.clusters)] + 0.6 * centres_KD
        sizes_K = 1 / (np.arange(self.clusters) + 1) if self.uneven else np.ones(self.clusters)
        cluster_N = rng.choice(self.clusters, num_rows, p=sizes_K / sizes_K.sum())
        return np.asarray(centres_KD[cluster_N] + self.spread * own_ND + noise_ND)

    def _matrix(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.asarray(np.linalg.qr(rng.standard_normal((self.dimension, self.dimension)))[0])

    def _mean(self, rng: np.random.Generator, length: float) -> npt.NDArray[np.float64]:
        direction_D = rng.standard_normal(self.dimension)
        return np.asarray(self.mean * length * direction_D / np.linalg.norm(direction_D))


@dataclass(frozen=True, kw_only=True, slots=True)
class Photos:
    """Photos by two real models; a seed chooses photos and which model is the first."""

    vectors: Callable[[], tuple[FloatArray, FloatArray]]
    """All photos by both models."""

    def make(self, seed: int, share: float, num_rows: int) -> FloatArray:
        """Vectors [N, D] in random order, `share` of them by the second model."""
        rng = np.random.default_rng((seed, 8))
        first, second = self.vectors() if seed % 2 == 0 else self.vectors()[::-1]
        photos_N = rng.permutation(len(first))[:num_rows]
        second_N = rng.random(len(photos_N)) < share
        return np.where(second_N[:, None], second[photos_N], first[photos_N])


_CLUSTERS = Synthetic(mean=0.5)
KINDS: Mapping[str, Synthetic | Photos] = {
    "photos, two networks": Photos(vectors=network_vectors),
    "photos, two linear encoders": Photos(vectors=linear_vectors),
    "no clusters": replace(_CLUSTERS, clusters=0),
    "no clusters, no common mean": Synthetic(clusters=0),
    "clusters": _CLUSTERS,
    "clusters, no common mean": Synthetic(),
    "20 clusters": replace(_CLUSTERS, clusters=20),
    "500 tight clusters": replace(_CLUSTERS, clusters=500, spread=0.15),
    "500 tight clusters, no common mean": Synthetic(clusters=500, spread=0.15),
    "uneven clusters": replace(_CLUSTERS, clusters=300, uneven=True),
    "topics of clusters": replace(_CLUSTERS, clusters=200, nested=True),
    "lengths of their own": replace(_CLUSTERS, normalized=False),
    "other lengths": replace(_CLUSTERS, normalized=False, relation=Relation.LENGTHS),
    "other scales": replace(_CLUSTERS, relation=Relation.SCALES),
    "another mean": replace(_CLUSTERS, relation=Relation.MEAN),
    "768 numbers": replace(_CLUSTERS, dimension=768, clusters=300),
}
BLIND: Mapping[str, Synthetic] = {
    "clusters, all axes alike, no common mean": Synthetic(decay=0.0),
}
"""What it cannot see, and says nothing of."""
