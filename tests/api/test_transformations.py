"""h as a function of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fct_ray
from fct_ray.errors import NotFoundError, SettingsError
from fct_ray.models.model_files import pack_model
from fct_ray.models.transformation import fit_linear
from fct_ray.shards.model_directory import save_model
from tests.fashion_vectors import fashion_vectors


def saved_h(models: Path, *, with_side: bool) -> str:
    """A linear h fitted on the photos, as a model directory."""
    vectors = fashion_vectors(1000)
    module = fit_linear(vectors.old_ND, vectors.side_NS if with_side else None, vectors.new_NW)
    packed = pack_model(
        module,
        kind="transformation",
        name="h",
        provenance={},
        from_encoder="0" * 64,
        to_encoder="1" * 64,
        side_fingerprint="2" * 64 if with_side else None,
    )
    return save_model(str(models), packed)


def test_h_takes_arrays_and_gives_arrays_of_the_new_space(tmp_path: Path) -> None:
    vectors, h = fashion_vectors(1000), fct_ray.load_transformation(Path(saved_h(tmp_path, with_side=True)))
    out_NW = h(vectors.old_ND[:7].astype(np.float64), vectors.side_NS[:7].tolist())
    assert (out_NW.shape, out_NW.dtype.name) == ((7, 48), "float32")
    cosine_N = (out_NW * vectors.new_NW[:7]).sum(axis=1) / np.linalg.norm(out_NW, axis=1)
    assert cosine_N.mean() > 0.7
    assert repr(h) == "<Transformation h: 6 + 24 -> 48>"


def test_h_refuses_arrays_of_another_shape_by_name(tmp_path: Path) -> None:
    vectors = fashion_vectors(1000)
    h = fct_ray.load_transformation(saved_h(tmp_path, with_side=True))
    with pytest.raises(SettingsError, match=r"old has shape \(6,\); h wants \[N, 6\]"):
        h(vectors.old_ND[0], vectors.side_NS[0])
    with pytest.raises(SettingsError, match="side-information is missing"):
        h(vectors.old_ND[:2])
    with pytest.raises(SettingsError, match="2 rows and side 3"):
        h(vectors.old_ND[:2], vectors.side_NS[:3])


def test_h_without_side_information_refuses_some(tmp_path: Path) -> None:
    vectors, h = fashion_vectors(1000), fct_ray.load_transformation(saved_h(tmp_path, with_side=False))
    assert h(vectors.old_ND[:2]).shape == (2, 48)
    with pytest.raises(SettingsError, match="is given"):
        h(vectors.old_ND[:2], vectors.side_NS[:2])


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing-here"):
        fct_ray.load_transformation(tmp_path / "nothing-here")
