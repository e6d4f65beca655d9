"""h corrected by the pairs that are near: a Gaussian process on what h gets wrong, in closed form.

    z       = [s_old * normalise(old), s_side * normalise(side), s_base * h]
    output  = normalise(h + k(z, z_pairs) @ coefficients),        k(a, b) = exp(-|a - b|^2 / 2)

Owns: the forward pass. The fit is in `fct_ray/models/correction_fit.py`.

Shapes: N rows, R of them at a time, O dim of old, S dim of side-information, W dim of new, P pairs, Z = O + S + W features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import SettingsError
from fct_ray.models.architectures import CorrectedArchitecture

_ROWS_AT_ONCE = 1024
"""Rows whose kernel is held at a time: 16 MiB with 4,096 pairs."""


class CorrectedTransformation(nn.Module):
    """h plus a kernel's weighted sum over the pairs; without pairs nearby it is h."""

    scales: Tensor
    pairs_PZ: Tensor
    coefficients_PW: Tensor

    def __init__(self, architecture: CorrectedArchitecture, base: nn.Module) -> None:
        """`base` is a module of the architecture's base. The correction is zero until its buffers are filled."""
        super().__init__()
        self.architecture = architecture
        self.base = base
        features = architecture.old_dimension + architecture.side_dimension + architecture.new_dimension
        self.register_buffer("scales", torch.ones(3))  # of old, side and base
        self.register_buffer("pairs_PZ", torch.zeros(architecture.num_pairs, features))
        self.register_buffer("coefficients_PW", torch.zeros(architecture.num_pairs, architecture.new_dimension))

    def forward(self, old_NO: Tensor, side_NS: Tensor | None = None) -> Tensor:
        """new_NW, float32, unit length if the architecture says normalized.

        Raises: SettingsError if side-information is there but not wanted, or wanted but not there.
        """
        seen = 0 if side_NS is None else side_NS.shape[1]
        if seen != self.architecture.side_dimension:
            raise SettingsError(
                f"side-information has {seen} dimensions; this correction was made for {self.architecture.side_dimension}; "
                "pass the store's side_info column, or fit a correction for the store at hand"
            )
        base_NW = self.base_of(old_NO, side_NS)
        z_NZ = self.features(old_NO, side_NS, base_NW)
        parts = [_kernel(part_RZ, self.pairs_PZ) @ self.coefficients_PW for part_RZ in torch.split(z_NZ, _ROWS_AT_ONCE)]
        output_NW = base_NW + torch.cat(parts)
        return functional.normalize(output_NW, dim=1) if self.architecture.normalized else output_NW

    def base_of(self, old_NO: Tensor, side_NS: Tensor | None) -> Tensor:
        """H without the correction, float32 [N, W]."""
        base_NW: Tensor = self.base(old_NO, side_NS if self.architecture.base.side_dimension > 0 else None)
        return base_NW.float()

    def features(self, old_NO: Tensor, side_NS: Tensor | None, base_NW: Tensor) -> Tensor:
        """z_NZ: what the kernel compares."""
        parts = [self.scales[0] * functional.normalize(old_NO.float(), dim=1)]
        if side_NS is not None:
            parts.append(self.scales[1] * functional.normalize(side_NS.float(), dim=1))
        return torch.cat([*parts, self.scales[2] * base_NW], dim=1)


def _kernel(z_NZ: Tensor, pairs_PZ: Tensor) -> Tensor:
    """exp(-|z - z_pair|^2 / 2), the squares by one matrix product."""
    lengths_N1, lengths_P = z_NZ.square().sum(dim=1, keepdim=True), pairs_PZ.square().sum(dim=1)
    return torch.exp(z_NZ @ pairs_PZ.T - (lengths_N1 + lengths_P) / 2)
