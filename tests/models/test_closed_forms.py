"""The orthogonal map and the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fct_ray.errors import FitError, SettingsError
from fct_ray.models.closed_forms import identity, procrustes
from fct_ray.models.transformation import LinearTransformation


def _output(module: LinearTransformation, old: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        output: np.ndarray = module(torch.from_numpy(old.astype(np.float32))).numpy()
    return output


def test_procrustes_recovers_a_rotation_between_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(size=(200, 6))
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(_output(procrustes(old, old @ rotation), old), old @ rotation, atol=1e-6)


@pytest.mark.parametrize(("old_dimension", "new_dimension"), [(6, 6), (4, 7), (7, 4)])
def test_procrustes_is_orthogonal_without_bias_and_nearer_than_other_orthogonal_maps(
    old_dimension: int, new_dimension: int
) -> None:
    rng = np.random.default_rng(1)
    old = rng.normal(size=(300, old_dimension))
    new = old @ rng.normal(size=(old_dimension, new_dimension)) + rng.normal(size=(300, new_dimension))
    module = procrustes(old, new, normalized=False)
    matrix = module.linear.weight.detach().numpy().T.astype(np.float64)
    gram = matrix @ matrix.T if old_dimension <= new_dimension else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(min(old_dimension, new_dimension)), atol=1e-6)
    assert not module.linear.bias.any()
    alignment = np.sum(new * (old @ matrix))
    for _ in range(50):
        small = rng.normal(size=(old_dimension, old_dimension)) * 0.03
        other = np.linalg.qr(np.eye(old_dimension) + small - small.T)[0]
        other *= np.sign(np.diag(other))
        assert np.sum(new * (old @ other @ matrix)) <= alignment + 1e-4


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(FitError, match="3 old and 2 new"):
        procrustes(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(FitError, match="0 old"):
        procrustes(np.ones((0, 2)), np.ones((0, 2)))


def test_the_identity_keeps_the_first_coordinates() -> None:
    old = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    np.testing.assert_array_equal(_output(identity(6, 4, normalized=False), old), old[:, :4])
    cut = old[:, :4] / np.linalg.norm(old[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(_output(identity(6, 4), old), cut, atol=1e-6)
    assert identity(6, 4).architecture.normalized


def test_a_longer_new_vector_needs_a_truncated_query() -> None:
    with pytest.raises(SettingsError, match=r"identity\(4, 4\), query_dimension=6"):
        identity(4, 6)
