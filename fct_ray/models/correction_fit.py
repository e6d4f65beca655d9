"""The closed-form fit of a correction: kernel ridge regression on what h gets wrong on pairs.

Scales of the kernel and the ridge are those with the least leave-one-out error over a sample of the pairs. For a kernel
matrix K, a ridge r and residuals R, with A = (K + r I)^-1, leaving pair i out predicts its residual as
R_i - (A R)_i / A_ii (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 5.4.2).

Owns: that algebra, in float64 on the CPU, and the search. The forward pass is in `fct_ray/models/correction.py`.

Shapes: P pairs, O dim of old, S dim of side-information, W dim of new, B blocks of features (old, side, base).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fct_ray.errors import FitError
from fct_ray.models.architectures import CorrectedArchitecture
from fct_ray.models.correction import CorrectedTransformation
from fct_ray.models.transformation import LinearTransformation, Transformation

SCALE_GRID = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Inverse widths of the kernel for vectors of unit length; 0 leaves a block out."""
RIDGE_GRID = (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e4)
"""Relative to the kernel's 1 on the diagonal; the last is next to no correction at all. No smaller one: float32 must do."""
MOST_PAIRS = 4096
MOST_PAIRS_TO_CHOOSE_BY = 500
_ROUNDS = 3

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrectionSettings:
    """What the search chose, and its leave-one-out error: the mean squared distance to new (2 - 2 cosine)."""

    scales: tuple[float, ...]
    """One for each block of features that is there: old, side, base."""
    ridge: float
    error: float = np.inf


def fit_correction(
    base: Transformation | LinearTransformation,
    old_PO: NDArray[np.float32],
    side_PS: NDArray[np.float32] | None,
    new_PW: NDArray[np.float32],
    *,
    seed: int = 0,
    most_pairs: int = MOST_PAIRS,
) -> CorrectedTransformation:
    """`base` with a correction solved on the pairs, or on a seeded sample of `most_pairs`; in eval mode.

    `side_PS` may be there though `base` reads none. Best are pairs that `base` was not fitted on: on its own it gets
    less wrong than on other items, and is corrected too little.

    Raises: FitError for fewer than two pairs.
    """
    if len(new_PW) < 2 or most_pairs < 2:
        raise FitError(
            f"a correction got {len(new_PW)} pairs, at most {most_pairs}; wanted at least 2: embed more items"
        )
    kept_P = np.random.default_rng(seed).permutation(len(new_PW))[:most_pairs]
    old, new = torch.from_numpy(old_PO[kept_P]), torch.from_numpy(new_PW[kept_P])
    side = None if side_PS is None else torch.from_numpy(side_PS[kept_P])
    architecture = CorrectedArchitecture(
        base=base.architecture,
        num_pairs=len(kept_P),
        old_dimension=old.shape[1],
        side_dimension=0 if side is None else side.shape[1],
        new_dimension=new.shape[1],
        normalized=base.architecture.normalized,
    )
    module = CorrectedTransformation(architecture, copy.deepcopy(base)).eval()
    with torch.no_grad():
        base_PW = module.base_of(old, side)
        unscaled_PZ = module.features(old, side, base_PW)  # its scales are 1 as yet
    widths = [width for width in (old.shape[1], architecture.side_dimension, new.shape[1]) if width]
    blocks = np.split(unscaled_PZ.double().numpy(), np.cumsum(widths)[:-1], axis=1)
    problem = CorrectionProblem(blocks, base_PW.double().numpy(), new.double().numpy(), architecture.normalized)
    chosen = problem.head(MOST_PAIRS_TO_CHOOSE_BY).chosen()
    coefficients_PW = problem.coefficients(chosen)
    old_scale, *between, base_scale = chosen.scales
    with torch.no_grad():
        module.scales.copy_(torch.tensor([old_scale, *(between or [0.0]), base_scale]))
        module.pairs_PZ.copy_(module.features(old, side, base_PW))
        module.coefficients_PW.copy_(torch.from_numpy(coefficients_PW))
    return module


class CorrectionProblem:
    """Pairs as blocks of features, h of them and their true new embeddings: what is wrong, and how to make it less."""

    def __init__(self, blocks_BPD: Sequence[Array], base_PW: Array, new_PW: Array, normalized: bool) -> None:
        self.blocks_BPD, self.base_PW, self.normalized = list(blocks_BPD), base_PW, normalized
        self.new_PW: Array = _unit(new_PW) if normalized else new_PW
        self.residuals_PW: Array = self.new_PW - base_PW

    def head(self, num_pairs: int) -> CorrectionProblem:
        """The same of the first pairs alone."""
        blocks_BPD = [block_PD[:num_pairs] for block_PD in self.blocks_BPD]
        return CorrectionProblem(blocks_BPD, self.base_PW[:num_pairs], self.new_PW[:num_pairs], self.normalized)

    def kernel(self, scales: Sequence[float]) -> Array:
        """k(z, z') of all pairs, [P, P]."""
        blocks_BPD = [scale * block_PD for scale, block_PD in zip(scales, self.blocks_BPD, strict=True)]
        z_PZ = np.concatenate(blocks_BPD, axis=1)
        lengths_P = np.square(z_PZ).sum(axis=1)
        halves_PP: Array = z_PZ @ z_PZ.T - (lengths_P[:, None] + lengths_P) / 2  # -|z - z'|^2 / 2
        np.minimum(halves_PP, 0.0, out=halves_PP)
        kernel_PP: Array = np.exp(halves_PP)
        return kernel_PP

    def coefficients(self, settings: CorrectionSettings) -> Array:
        """(K + ridge I)^-1 residuals, [P, W]."""
        system_PP = self.kernel(settings.scales)
        system_PP[np.diag_indices_from(system_PP)] += settings.ridge
        coefficients_PW: Array = np.linalg.solve(system_PP, self.residuals_PW).astype(np.float64)
        return coefficients_PW

    def errors(self, scales: Sequence[float], ridges: Sequence[float]) -> list[float]:
        """The leave-one-out error for every ridge, from one eigendecomposition of the kernel."""
        eigenvalues_P, vectors_PP = np.linalg.eigh(self.kernel(scales))
        eigenvalues_P = np.maximum(eigenvalues_P, 0.0)
        rotated_PW = vectors_PP.T @ self.residuals_PW
        squares_PP = np.square(vectors_PP)
        errors = []
        for ridge in ridges:
            inverse_P = 1.0 / (eigenvalues_P + ridge)
            coefficients_PW = vectors_PP @ (inverse_P[:, None] * rotated_PW)
            left_out_PW = self.residuals_PW - coefficients_PW / (squares_PP @ inverse_P)[:, None]
            output_PW = self.base_PW + left_out_PW
            wrong_PW = (_unit(output_PW) if self.normalized else output_PW) - self.new_PW
            errors.append(float(np.square(wrong_PW).sum(axis=1).mean()))
        return errors

    def chosen(self) -> CorrectionSettings:
        """The settings of least error found by going through one scale after another, with all ridges for each."""
        best = self._best_ridge(tuple(1.0 for _ in self.blocks_BPD))
        for _ in range(_ROUNDS):
            before = best
            for number in range(len(best.scales)):
                for scale in SCALE_GRID:
                    scales = (*best.scales[:number], scale, *best.scales[number + 1 :])
                    tried = self._best_ridge(scales)
                    best = tried if tried.error < best.error else best
            if best == before:
                break
        return best

    def _best_ridge(self, scales: tuple[float, ...]) -> CorrectionSettings:
        errors = self.errors(scales, RIDGE_GRID)
        least = int(np.argmin(errors))
        return CorrectionSettings(scales=scales, ridge=RIDGE_GRID[least], error=errors[least])


def _unit(rows_PW: Array) -> Array:
    unit_PW: Array = rows_PW / np.maximum(np.linalg.norm(rows_PW, axis=1, keepdims=True), 1e-12)
    return unit_PW
