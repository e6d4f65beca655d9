"""The correction of h: the plain kernel formula, leave-one-out by brute force, and where it helps and must not harm."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from fct_ray.errors import FitError, ModelError, SettingsError
from fct_ray.kinds import Precision
from fct_ray.models.architectures import CorrectedArchitecture
from fct_ray.models.blocks import block, join_blocks
from fct_ray.models.closed_forms import identity
from fct_ray.models.correction import CorrectedTransformation
from fct_ray.models.correction_fit import RIDGE_GRID, CorrectionProblem, CorrectionSettings, fit_correction
from fct_ray.models.flops import flops_per_item, transformation_flops
from fct_ray.models.transformation import TransformationArchitecture, build_transformation, export, fit_linear
from fct_ray.models.transformation_runner import TransformRunner
from tests.models.joined_blocks import load, query_map_of, run, seen_h

Array = np.ndarray[Any, np.dtype[Any]]
OLD, SIDE, NEW = 6, 4, 5


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _pairs(rows: int = 120, seed: int = 0) -> tuple[Array, Array, Array]:
    """A new embedding that is no linear function of old and side."""
    rng, maps = np.random.default_rng(seed), np.random.default_rng(99)
    old, side = rng.normal(size=(rows, OLD)), rng.normal(size=(rows, SIDE))
    hidden = np.tanh(np.concatenate([_unit(old), _unit(side)], axis=1) @ maps.normal(size=(OLD + SIDE, 12)) * 2)
    new = _unit(hidden @ maps.normal(size=(12, NEW)))
    return old.astype(np.float32), side.astype(np.float32), new.astype(np.float32)


def _corrected() -> CorrectedTransformation:
    return fit_correction(seen_h(), *_pairs())


def test_the_output_is_the_plain_kernel_formula() -> None:
    module, (old, side, _) = _corrected(), _pairs(9, seed=1)
    s_old, s_side, s_base = module.scales.double().numpy()
    base = run(seen_h(), old, side).astype(np.float64)
    z = np.concatenate([s_old * _unit(old), s_side * _unit(side), s_base * base], axis=1)
    old_pairs, side_pairs, _ = _pairs()
    base_pairs = run(seen_h(), old_pairs, side_pairs)
    order = np.random.default_rng(0).permutation(120)
    z_pairs = np.concatenate([s_old * _unit(old_pairs), s_side * _unit(side_pairs), s_base * base_pairs], axis=1)[order]
    expected = base.copy()
    for row in range(9):
        for pair in range(120):
            weight = np.exp(-np.square(z[row] - z_pairs[pair]).sum() / 2)
            expected[row] += weight * module.coefficients_PW[pair].double().numpy()
    np.testing.assert_allclose(run(module, old, side), _unit(expected), atol=1e-5)
    assert module.coefficients_PW.abs().max() > 0.01


def _problem(normalized: bool = True, rows: int = 25) -> CorrectionProblem:
    old, side, new = (part.astype(np.float64) for part in _pairs(rows))
    base = _unit(np.random.default_rng(3).normal(size=new.shape) * 0.3 + new)
    return CorrectionProblem([_unit(old), _unit(side), base], base, new, normalized)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_leave_one_out_error_is_that_of_leaving_each_pair_out(normalized: bool) -> None:
    problem, scales = _problem(normalized), (0.5, 2.0, 1.0)
    kernel = problem.kernel(scales)
    for ridge, error in zip(RIDGE_GRID, problem.errors(scales, RIDGE_GRID), strict=True):
        distances = []
        for out in range(25):
            rest = np.delete(np.arange(25), out)
            system = kernel[np.ix_(rest, rest)] + ridge * np.eye(24)
            output = problem.base_PW[out] + kernel[out, rest] @ np.linalg.solve(system, problem.residuals_PW[rest])
            output = output / np.linalg.norm(output) if normalized else output
            distances.append(np.square(output - problem.new_PW[out]).sum())
        assert error == pytest.approx(np.mean(distances), rel=1e-9)


def test_the_kernel_and_coefficients_are_the_plain_formulas() -> None:
    problem, scales = _problem(), (0.5, 2.0, 1.0)
    z = np.concatenate([scale * part for scale, part in zip(scales, problem.blocks_BPD, strict=True)], axis=1)
    kernel = np.exp(-np.square(z[:, None] - z[None]).sum(axis=2) / 2)
    np.testing.assert_allclose(problem.kernel(scales), kernel, atol=1e-12)
    coefficients = problem.coefficients(CorrectionSettings(scales=scales, ridge=0.1))
    np.testing.assert_allclose((kernel + 0.1 * np.eye(25)) @ coefficients, problem.residuals_PW, atol=1e-10)


def test_what_is_chosen_is_no_worse_than_where_the_search_starts() -> None:
    problem = _problem(rows=60)
    chosen = problem.chosen()
    assert chosen.error <= min(problem.errors((1.0, 1.0, 1.0), RIDGE_GRID))
    assert chosen.error == pytest.approx(problem.errors(chosen.scales, [chosen.ridge])[0])


def _cosine(module: torch.nn.Module, *, seed: int) -> float:
    old, side, new = _pairs(300, seed=seed)
    reads_side = isinstance(module, CorrectedTransformation)
    return float((run(module, old, side if reads_side else None) * new).sum(axis=1).mean())


def test_a_correction_brings_unseen_items_nearer_where_h_left_something_to_learn() -> None:
    old, side, new = _pairs(200)
    base = fit_linear(old, None, new)
    corrected = fit_correction(base, old, side, new)
    assert _cosine(corrected, seed=8) > _cosine(base, seed=8) + 0.1


def test_where_pairs_say_nothing_of_each_other_h_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(size=(200, OLD)).astype(np.float32)
    base = identity(OLD, OLD)
    noise = _unit(_unit(old) + rng.normal(size=old.shape) * 0.2).astype(np.float32)
    corrected = fit_correction(base, old, None, noise)
    unseen = rng.normal(size=(200, OLD)).astype(np.float32)
    assert float((run(corrected, unseen) * run(base, unseen)).sum(axis=1).min()) > 0.99


def test_pairs_above_the_most_are_a_seeded_sample() -> None:
    pairs = _pairs()
    first, second, other = (fit_correction(seen_h(), *pairs, seed=seed, most_pairs=40) for seed in (1, 1, 2))
    assert first.architecture.num_pairs == 40
    assert torch.equal(first.pairs_PZ, second.pairs_PZ)
    assert torch.equal(first.coefficients_PW, second.coefficients_PW)
    assert not torch.equal(first.coefficients_PW, other.coefficients_PW)


def test_the_fit_leaves_h_alone() -> None:
    base = seen_h().train()
    corrected = fit_correction(base, *_pairs())
    assert base.training
    assert not corrected.training
    assert corrected.base is not base


def test_a_correction_comes_back_from_its_files() -> None:
    module, (old, side, _) = _corrected(), _pairs(9, seed=1)
    loaded = load(module)
    np.testing.assert_array_equal(run(loaded.module, old, side), run(module, old, side))
    assert loaded.module.architecture == module.architecture
    assert loaded.document.dimension == NEW


@pytest.mark.parametrize("precision", list(Precision))
def test_the_runner_streams_a_correction_and_counts_it(precision: Precision) -> None:
    module, (old, side, _) = _corrected(), _pairs(23, seed=1)
    output, usage = TransformRunner(load(module), batch_rows=5, precision=precision).run(old, side)
    tolerance = 1e-5 if precision is Precision.FLOAT32 else 0.1
    np.testing.assert_allclose(output, run(module, old, side), atol=tolerance)
    assert usage.flops == 23 * transformation_flops(module.architecture)


def test_flops_on_paper_are_those_that_torch_counts() -> None:
    module = build_transformation(_corrected().architecture)
    old, side, _ = _pairs(7)
    inputs = torch.from_numpy(old), torch.from_numpy(side)
    assert flops_per_item(module, inputs) == transformation_flops(module.architecture)


def test_folding_reaches_the_h_that_is_corrected() -> None:
    module, (old, side, _) = _corrected(), _pairs(9, seed=1)
    exported = export(module)
    np.testing.assert_allclose(run(exported, old, side), run(module, old, side), atol=1e-5)
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in exported.modules())


def test_a_correction_that_has_not_been_loaded_is_h() -> None:
    module, (old, side, _) = build_transformation(_corrected().architecture).eval(), _pairs(9)
    assert isinstance(module, CorrectedTransformation)
    np.testing.assert_allclose(run(module, old, side), run(module.base, old, side), atol=1e-6)


def test_a_corrected_h_can_be_in_a_block_and_its_queries_map() -> None:
    corrected, (old, side, _) = _corrected(), _pairs(9, seed=1)
    joined = join_blocks([block("side", 0.4, SIDE), block("h", 0.6, corrected)])
    new = run(corrected, old, side)
    expected = np.concatenate([_unit(side) * 0.4**0.5, new * 0.6**0.5], axis=1)
    np.testing.assert_allclose(run(load(joined).module, old, side), expected, atol=2e-6)
    np.testing.assert_allclose(query_map_of(joined)({"side": side, "new": new}), expected, atol=2e-6)
    output, _ = TransformRunner(load(joined), batch_rows=4).run(old, side)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_more_rows_than_fit_at_once_come_out_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module, (old, side, _) = _corrected(), _pairs(9, seed=1)
    expected = run(module, old, side)
    monkeypatch.setattr("fct_ray.models.correction._ROWS_AT_ONCE", 2)
    np.testing.assert_allclose(run(module, old, side), expected, atol=1e-5)
    assert run(module, old[:0], side[:0]).shape == (0, NEW)


def test_nonsense_is_refused() -> None:
    old, side, new = _pairs()
    with pytest.raises(FitError, match="1 pairs"):
        fit_correction(seen_h(), old[:1], side[:1], new[:1])
    module = _corrected()
    with pytest.raises(SettingsError, match=r"0 dimensions.*made for 4"):
        module(torch.from_numpy(old))
    with pytest.raises(SettingsError, match=r"\(7, 4, 5\)"):
        dataclasses.replace(module.architecture, old_dimension=7)
    with pytest.raises(SettingsError, match="num_pairs"):
        dataclasses.replace(module.architecture, num_pairs=0)
    with torch.no_grad():
        module.coefficients_PW[0, 0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        load(module)
    base = TransformationArchitecture(old_dimension=2, new_dimension=2)
    with pytest.raises(SettingsError, match="'corrected'"):
        CorrectedArchitecture(kind="gp", base=base, num_pairs=1, old_dimension=2, new_dimension=2)  # type: ignore[arg-type]
