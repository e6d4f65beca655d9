"""Statistics that are added up batch by batch equal those of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.evaluation.gallery_statistics import VectorStatistics, spectrum
from fct_ray.gallery_facts import VectorFacts


def _facts(vectors: np.ndarray, num_batches: int, kept_rows: int = 10_000) -> VectorFacts:
    statistics = VectorStatistics(vectors.shape[1], kept_rows=kept_rows, seed=3)
    for start in np.array_split(np.arange(len(vectors)), num_batches):
        places = np.stack([np.zeros(len(start), np.int64), start], axis=1)
        statistics.add(vectors[start], places, num_rows=len(start), nulls=0, other_dimension=0)
    return statistics.facts()


def test_batches_do_not_matter_and_the_figures_are_those_of_numpy() -> None:
    vectors = (np.random.default_rng(0).standard_normal((500, 6)) * [5, 3, 1, 1, 0, 1e-5]).astype(np.float32)
    vectors[7], vectors[8], vectors[9, 0], vectors[10, 0] = 0, vectors[11], np.nan, np.inf
    facts = _facts(vectors, 7)
    assert facts == _facts(vectors, 3)
    assert (facts.zeros, facts.repeated, facts.nan, facts.infinite, facts.constant_dimensions) == (1, 1, 1, 1, 2)
    good = vectors[[row for row in range(500) if row not in (7, 9, 10)]].astype(np.float64)
    lengths = np.linalg.norm(good, axis=1)
    assert facts.norm_min == pytest.approx(lengths.min())
    assert facts.norm_quantiles[2] == pytest.approx(np.median(lengths))
    assert sum(facts.histogram) == 497
    variances = np.linalg.eigvalsh(np.cov(good.T))[::-1]
    assert facts.spectrum[:3] == pytest.approx(variances[:3] / variances.sum())
    assert facts.effective_dimensions == pytest.approx(variances.sum() ** 2 / (variances**2).sum())


def test_kept_rows_are_a_fair_sample_with_their_places() -> None:
    vectors = np.arange(1, 5_001, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    statistics = VectorStatistics(2, kept_rows=400, seed=0)
    for start in np.array_split(np.arange(5_000), 11):
        places = np.stack([np.full(len(start), 2), start], axis=1)
        statistics.add(vectors[start], places, num_rows=len(start), nulls=0, other_dimension=0)
    kept, places = statistics.kept()
    assert len(kept) == 400
    assert (kept[:, 0] == places[:, 1] + 1).all()
    assert places[:, 1].mean() == pytest.approx(2_500, abs=4 * 5_000 / np.sqrt(12 * 400))


def test_the_spectrum_is_the_same_from_rows_as_from_numbers() -> None:
    wide = np.random.default_rng(1).standard_normal((30, 80)).astype(np.float32)
    assert spectrum(wide)[:29] == pytest.approx(np.linalg.eigvalsh(np.cov(wide.T))[::-1][:29], rel=1e-4)
