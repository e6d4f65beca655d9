"""The transformation h, (old embedding, side-information) -> new embedding: the network and its linear control.

Owns: architectures, forward passes, the linear control's fit, and the form for inference with BatchNorm folded.
Knows neither pairs on disk nor training loops.

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
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import SettingsError
from fct_ray.models.ridge import L2_GRID, fit_ridge

TransformationKind = Literal["mlp", "linear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformationArchitecture:
    """Everything that decides the shape of h.

    `side_dimension` 0 means no side-information: the mlp then sees the old embedding twice, as in the paper, the
    linear control once. `inner` is the mlp's width. `normalized` makes the output unit length (cosine spaces).

    Raises: SettingsError for an unknown kind or a dimension that is not positive.
    """

    kind: TransformationKind = "mlp"
    old_dimension: int
    side_dimension: int = 0
    new_dimension: int
    inner: int = 2048
    normalized: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("mlp", "linear"):
            raise SettingsError(f"kind of transformation is {self.kind!r}; wanted 'mlp' or 'linear'")
        for name, least in (("old_dimension", 1), ("side_dimension", 0), ("new_dimension", 1), ("inner", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} of the transformation is {getattr(self, name)}; wanted at least {least}")


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


AnyTransformation = Transformation | LinearTransformation


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


def build_transformation(architecture: TransformationArchitecture) -> AnyTransformation:
    """A freshly initialised module of the architecture's kind."""
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
    packed into a model file.
    """
    exported = copy.deepcopy(transformation).eval().requires_grad_(requires_grad=False)
    if isinstance(exported, Transformation):
        exported.old_branch = _folded(exported.old_branch)
        exported.side_branch = _folded(exported.side_branch)
        exported.mixer = _folded(exported.mixer)
    return exported.to(dtype)


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
