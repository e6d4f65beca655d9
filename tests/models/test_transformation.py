"""h: sizes from the paper, folding, batches of one row; the linear control against scikit-learn."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fct_ray.errors import FitError, SettingsError
from fct_ray.models.flops import flops_per_item, training_flops_per_item, transformation_flops
from fct_ray.models.transformation import (
    AnyTransformation,
    LinearTransformation,
    Transformation,
    TransformationArchitecture,
    build_transformation,
    export,
    fit_linear,
    freeze_batch_norm,
)

SMALL = TransformationArchitecture(old_dimension=6, side_dimension=4, new_dimension=5, inner=16)
VARIANTS = [
    SMALL,
    dataclasses.replace(SMALL, side_dimension=0),
    dataclasses.replace(SMALL, kind="linear"),
    dataclasses.replace(SMALL, kind="linear", side_dimension=0, normalized=False),
]


def _inputs(architecture: TransformationArchitecture, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    random = torch.Generator().manual_seed(3)
    old = torch.randn(rows, architecture.old_dimension, generator=random)
    if architecture.side_dimension == 0:
        return old, None
    return old, torch.randn(rows, architecture.side_dimension, generator=random)


def _with_statistics(architecture: TransformationArchitecture) -> AnyTransformation:
    """A module whose BatchNorms have seen data and whose affine parts are not the identity."""
    torch.manual_seed(1)
    module = build_transformation(architecture)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    for _ in range(3):
        module(*_inputs(architecture, 32))
    return module.eval()


def test_the_reference_h_has_the_papers_parameters_and_multiply_adds() -> None:
    architecture = TransformationArchitecture(old_dimension=128, side_dimension=128, new_dimension=128)
    module = Transformation(architecture)
    assert sum(parameter.numel() for parameter in module.parameters()) == 5_712_000
    assert transformation_flops(architecture) == 2 * 5_701_632
    assert round(transformation_flops(architecture) / 2e6, 2) == 5.70


@pytest.mark.parametrize("architecture", VARIANTS)
def test_flops_on_paper_are_those_that_torch_counts(architecture: TransformationArchitecture) -> None:
    module = build_transformation(architecture)
    assert flops_per_item(module, _inputs(architecture, 7)) == transformation_flops(architecture)
    assert module.training


def test_training_costs_two_to_three_forwards_and_leaves_the_module_alone() -> None:
    module = build_transformation(SMALL)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    ratio = training_flops_per_item(module, _inputs(SMALL, 8)) / transformation_flops(SMALL)
    assert 2 < ratio <= 3
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("architecture", VARIANTS)
def test_folding_batch_norm_changes_no_output(architecture: TransformationArchitecture) -> None:
    module = _with_statistics(architecture)
    inputs = _inputs(architecture, 50)
    exported = export(module)
    with torch.inference_mode():
        torch.testing.assert_close(exported(*inputs), module(*inputs), atol=1e-5, rtol=0)
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in exported.modules())
    assert not any(parameter.requires_grad for parameter in exported.parameters())


@pytest.mark.parametrize("architecture", VARIANTS)
def test_output_is_unit_length_only_where_normalized(architecture: TransformationArchitecture) -> None:
    lengths = _with_statistics(architecture)(*_inputs(architecture, 20)).norm(dim=1)
    assert bool(torch.allclose(lengths, torch.ones(20), atol=1e-5)) is architecture.normalized


def test_without_side_information_both_branches_see_the_old_embedding() -> None:
    module = _with_statistics(VARIANTS[1])
    assert isinstance(module, Transformation)
    old, _ = _inputs(VARIANTS[1], 5)
    by_hand = module.mixer(torch.cat((module.old_branch(old), module.side_branch(old)), dim=1))
    torch.testing.assert_close(module(old), by_hand / by_hand.norm(dim=1, keepdim=True))


def test_a_training_batch_of_one_row_takes_the_running_statistics() -> None:
    """The reference implementation fails there; the last batch of an epoch may well have one row."""
    module = _with_statistics(SMALL)
    inputs = _inputs(SMALL, 1)
    expected = module(*inputs)
    torch.testing.assert_close(module.train()(*inputs), expected)


def test_frozen_batch_norm_keeps_its_statistics_and_trains_the_rest() -> None:
    module = _with_statistics(SMALL).train()
    freeze_batch_norm(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module(*_inputs(SMALL, 16)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_side_information_that_does_not_fit_is_refused_with_both_numbers() -> None:
    old, side = _inputs(SMALL, 2)
    with pytest.raises(SettingsError, match=r"0 dimensions.*made for 4"):
        build_transformation(SMALL)(old)
    with pytest.raises(SettingsError, match=r"4 dimensions.*made for 0"):
        build_transformation(VARIANTS[1])(old, side)


def test_architectures_refuse_nonsense_and_survive_pickling() -> None:
    with pytest.raises(SettingsError, match="'rbf'"):
        dataclasses.replace(SMALL, kind="rbf")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="new_dimension"):
        dataclasses.replace(SMALL, new_dimension=0)
    assert pickle.loads(pickle.dumps(SMALL)) == SMALL  # noqa: S301


def _pairs(rows: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    old, side = rng.normal(size=(rows, 6)), rng.normal(size=(rows, 4)) * 3 + 1
    new = np.concatenate([old, side], axis=1) @ rng.normal(size=(10, 5)) + 0.5 + rng.normal(size=(rows, 5))
    return old.astype(np.float32), side.astype(np.float32), new.astype(np.float32)


@pytest.mark.parametrize("l2", [0.0, 0.01, 2.0])
def test_the_linear_control_is_sklearns_ridge(l2: float) -> None:
    old, side, new = _pairs()
    inputs = np.concatenate([old, side], axis=1).astype(np.float64)
    centred = inputs - inputs.mean(axis=0)
    oracle = Ridge(alpha=l2 * np.trace(centred.T @ centred) / 10).fit(inputs, new)
    module = fit_linear(old, side, new, normalized=False, l2_grid=[l2])
    with torch.inference_mode():
        output = module(torch.from_numpy(old), torch.from_numpy(side)).numpy()
    np.testing.assert_allclose(output, oracle.predict(inputs), atol=1e-4)


def test_the_penalty_is_chosen_on_rows_that_were_not_fitted() -> None:
    """Pure noise as target with almost as many inputs as rows: less fitting is always better."""
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(60, 50)).astype(np.float32), rng.normal(size=(60, 3)).astype(np.float32)
    chosen = fit_linear(old, None, new, normalized=False, l2_grid=[0.0, 1e3])
    heavy = fit_linear(old, None, new, normalized=False, l2_grid=[1e3])
    assert torch.equal(chosen.linear.weight, heavy.linear.weight)


def test_the_linear_control_recovers_an_exact_map_between_unit_vectors() -> None:
    rng = np.random.default_rng(2)
    old = rng.normal(size=(500, 8)).astype(np.float32)
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
    module = fit_linear(old, None, old @ rotation)
    assert isinstance(module, LinearTransformation)
    with torch.inference_mode():
        np.testing.assert_allclose(module(torch.from_numpy(old)).numpy(), old @ rotation, atol=1e-5)


def test_a_column_that_never_varies_does_not_break_the_linear_fit() -> None:
    old, side, new = _pairs()
    side[:, 2] = 7.0
    module = fit_linear(old, side, new, l2_grid=[0.0])
    assert bool(torch.isfinite(module.linear.weight).all())


def test_a_linear_fit_of_one_pair_is_refused() -> None:
    with pytest.raises(FitError, match="1 pairs"):
        fit_linear(np.ones((1, 2), np.float32), None, np.ones((1, 2), np.float32))
