"""The transformation h, (old embedding, side-information) -> new embedding: the network and its linear control.

Owns: their forward passes, the linear control's fit, building a transformation of any kind (corrected ones and joined
blocks too), and the form for inference with BatchNorm folded. Knows neither pairs on disk nor training loops.

Shapes: N rows, O dim of old, S dim of side-information, W dim of new.

```
old_NO  -> Linear O, 2O -> BN ReLU -> Linear 2O, 2W -> BN ReLU --+
                                                                 cat 4W -> inner -> inner -> W (bias)
side_NS -> Linear S, 2S -> BN ReLU -> Linear 2S, 2W -> BN ReLU --+
```

Paper: Ramanujan et al., "Forward Compatible Training for Large-Scale Embedding Retrieval Systems", CVPR 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import SettingsError
from fct_ray.models.architectures import (
    AnyTransformationArchitecture,
    BlocksArchitecture,
    CorrectedArchitecture,
    TransformationArchitecture,
    TransformationKind,
)
from fct_ray.models.blocks import Block, BlockTransformation
from fct_ray.models.correction import CorrectedTransformation
from fct_ray.models.ridge import L2_GRID, fit_ridge

__all__ = [
    "AnyTransformation",
    "LinearTransformation",
    "Transformation",
    "TransformationArchitecture",
    "TransformationKind",
    "build_transformation",
    "export",
    "fit_linear",
    "freeze_batch_norm",
]


class _RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm that takes its running statistics where a training batch has one row, instead of failing."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if self.training and input.shape[0] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class Transformation(nn.Module):
    """The network h of the paper, general in its three dimensions; 5.712 M parameters at 128/128 -> 128."""

    def __init__(self, architecture: TransformationArchitecture) -> None:
        super().__init__()
        if architecture.kind != "mlp":
            raise SettingsError(f"Transformation is the mlp, not {architecture.kind!r}; use build_transformation")
        self.architecture = architecture
        old, side, new = architecture.old_dimension, architecture.side_dimension, architecture.new_dimension
        inner = architecture.inner
        self.old_branch = _layers(old, 2 * old, 2 * new)
        self.side_branch = _layers(side or old, 2 * (side or old), 2 * new)
        self.mixer = nn.Sequential(*_layers(4 * new, inner, inner), nn.Linear(inner, new))

    def forward(self, old_NO: Tensor, side_NS: Tensor | None = None) -> Tensor:
        """new_NW, unit length if the architecture says normalized.

        Raises: SettingsError if side-information is there but not wanted, or wanted but not there.
        """
        _check_side(self.architecture, side_NS)
        other = old_NO if side_NS is None else side_NS
        mixed = torch.cat((self.old_branch(old_NO), self.side_branch(other)), dim=1)
        return _finished(self.mixer(mixed), self.architecture)


class LinearTransformation(nn.Module):
    """The control: one affine map of [old, side], output normalised like h's."""

    def __init__(self, architecture: TransformationArchitecture) -> None:
        super().__init__()
        if architecture.kind != "linear":
            raise SettingsError(f"LinearTransformation is not {architecture.kind!r}; use build_transformation")
        self.architecture = architecture
        inputs = architecture.old_dimension + architecture.side_dimension
        self.linear = nn.Linear(inputs, architecture.new_dimension)

    def forward(self, old_NO: Tensor, side_NS: Tensor | None = None) -> Tensor:
        """new_NW, unit length if the architecture says normalized.

        Raises: SettingsError if side-information is there but not wanted, or wanted but not there.
        """
        _check_side(self.architecture, side_NS)
        inputs = old_NO if side_NS is None else torch.cat((old_NO, side_NS), dim=1)
        return _finished(self.linear(inputs), self.architecture)


AnyTransformation = Transformation | LinearTransformation | CorrectedTransformation | BlockTransformation


def fit_linear(
    old_NO: NDArray[np.float32],
    side_NS: NDArray[np.float32] | None,
    new_NW: NDArray[np.float32],
    *,
    normalized: bool = True,
    l2_grid: Sequence[float] = L2_GRID,
    validation_share: float = 0.1,
    seed: int = 0,
) -> LinearTransformation:
    """The linear control fitted in closed form on all rows, by `ridge.fit_ridge`; in eval mode.

    Its penalty is the one of `l2_grid` that did best on a seeded random `validation_share` of the rows.

    Raises: FitError for fewer than two rows or an empty grid.
    """
    inputs_NI = np.concatenate([old_NO] if side_NS is None else [old_NO, side_NS], axis=1)
    ridge = fit_ridge(
        inputs_NI, new_NW, normalized=normalized, l2_grid=l2_grid, validation_share=validation_share, seed=seed
    )
    architecture = TransformationArchitecture(
        kind="linear",
        old_dimension=old_NO.shape[1],
        side_dimension=0 if side_NS is None else side_NS.shape[1],
        new_dimension=new_NW.shape[1],
        normalized=normalized,
    )
    module = LinearTransformation(architecture)
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(ridge.weights_IW.T.copy()))
        module.linear.bias.copy_(torch.from_numpy(ridge.bias_W))
    return module.eval()


@overload
def build_transformation(architecture: TransformationArchitecture) -> Transformation | LinearTransformation: ...
@overload
def build_transformation(architecture: AnyTransformationArchitecture) -> AnyTransformation: ...
def build_transformation(architecture: AnyTransformationArchitecture) -> AnyTransformation:
    """A freshly initialised module of the architecture's kind; projections and corrections are zero until loaded."""
    if isinstance(architecture, BlocksArchitecture):
        blocks = []
        for part in architecture.blocks:
            inner = None if part.transformation is None else build_transformation(part.transformation)
            blocks.append(Block(part, inner))
        return BlockTransformation(architecture, blocks)
    if isinstance(architecture, CorrectedArchitecture):
        return CorrectedTransformation(architecture, build_transformation(architecture.base))
    if architecture.kind == "linear":
        return LinearTransformation(architecture)
    return Transformation(architecture)


def freeze_batch_norm(module: nn.Module) -> None:
    """Puts every BatchNorm of `module` in eval mode (its statistics stay); `module.train()` undoes it.

    The paper's recipe fits h with frozen BatchNorm for the second half of the epochs.
    """
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch has no public base class
            child.eval()


def export(transformation: AnyTransformation, dtype: torch.dtype = torch.float32) -> AnyTransformation:
    """A copy for inference: eval mode, no gradients, every BatchNorm folded into the Linear before it.

    BN(Wx) = g (Wx - m) / s + b = (g / s) W x + (b - g m / s), with s = sqrt(running variance + eps). The outputs
    agree with the original in eval mode to rounding. The copy takes inputs of `dtype`, gives float32, and cannot be
    packed into a model file. The networks compute in `dtype`; projections and corrections stay in float32, where they
    cost little and differences of near numbers would lose the most.
    """
    exported = copy.deepcopy(transformation).eval().requires_grad_(requires_grad=False)
    for module in list(exported.modules()):
        if isinstance(module, Transformation):
            module.old_branch = _folded(module.old_branch)
            module.side_branch = _folded(module.side_branch)
            module.mixer = _folded(module.mixer)
        if isinstance(module, Transformation | LinearTransformation):
            module.to(dtype)
    return exported


def _layers(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, middle, bias=False),
        _RowBatchNorm(middle),
        nn.ReLU(inplace=True),
        nn.Linear(middle, outputs, bias=False),
        _RowBatchNorm(outputs),
        nn.ReLU(inplace=True),
    )


def _folded(layers: nn.Sequential) -> nn.Sequential:
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d):
            linear = cast("nn.Linear", kept.pop())
            kept.append(nn.utils.fuse_linear_bn_eval(linear, layer))
        else:
            kept.append(layer)
    return nn.Sequential(*kept)


def _check_side(architecture: TransformationArchitecture, side_NS: Tensor | None) -> None:
    seen = 0 if side_NS is None else side_NS.shape[1]
    if seen != architecture.side_dimension:
        raise SettingsError(
            f"side-information has {seen} dimensions; this transformation was made for {architecture.side_dimension}; "
            "pass the store's side_info column, or fit a transformation for the store at hand"
        )


def _finished(output_NW: Tensor, architecture: TransformationArchitecture) -> Tensor:
    output_NW = output_NW.float()
    return functional.normalize(output_NW, dim=1) if architecture.normalized else output_NW
