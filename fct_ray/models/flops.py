"""FLOPs of a module per item, counted and on paper; two per multiply-add, as everywhere in this package.

Owns: the counting convention (matrix products and convolutions; normalisation, activations and pooling are
not counted, as in torch's counter). Knows no hardware and no time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from fct_ray.models.architectures import AnyTransformationArchitecture, BlocksArchitecture, CorrectedArchitecture


def flops_per_item(module: nn.Module, example_inputs: Sequence[torch.Tensor | None]) -> float:
    """FLOPs of one item's forward pass in eval mode, by `torch.utils.flop_counter.FlopCounterMode`.

    `example_inputs` are the positional arguments of `module`; the first one's first axis counts the items.
    """
    from torch.utils.flop_counter import (
        FlopCounterMode,
    )  # imports triton: a quarter of a second of every worker's start

    was_training = module.training
    module.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*example_inputs)
    module.train(was_training)
    return counter.get_total_flops() / _num_items(example_inputs)


def training_flops_per_item(module: nn.Module, example_inputs: Sequence[torch.Tensor | None]) -> float:
    """FLOPs of one item's forward and backward pass (somewhat under three times the forward pass).

    Works on a copy: gradients and BatchNorm statistics of `module` stay as they are. The first input must
    have at least two items, because BatchNorm has statistics in training.
    """
    from torch.utils.flop_counter import FlopCounterMode

    copied = copy.deepcopy(module).train()
    counter = FlopCounterMode(display=False)
    with counter:
        copied(*example_inputs).sum().backward()
    return counter.get_total_flops() / _num_items(example_inputs)


def transformation_flops(architecture: AnyTransformationArchitecture) -> int:
    """FLOPs of one item through h, on paper, BatchNorm folded.

    mlp: 2 * (branch(O) + branch(S or O) + 4W*inner + inner*inner + inner*W) with branch(d) = d*2d + 2d*2W;
    linear: 2 * (O + S) * W; corrected: its base + 2 * pairs * (O + S + W + W); blocks: their transformations and
    2 * in * out for every projection.
    """
    if isinstance(architecture, BlocksArchitecture):
        inner_flops = [
            transformation_flops(block.transformation) for block in architecture.blocks if block.transformation
        ]
        return sum(inner_flops) + sum(
            2 * block.in_dimension * block.out_dimension for block in architecture.blocks if block.projected
        )
    if isinstance(architecture, CorrectedArchitecture):
        features = architecture.old_dimension + architecture.side_dimension + architecture.new_dimension
        return transformation_flops(architecture.base) + 2 * architecture.num_pairs * (
            features + architecture.new_dimension
        )
    old, side, new = architecture.old_dimension, architecture.side_dimension, architecture.new_dimension
    if architecture.kind == "linear":
        return 2 * (old + side) * new
    inner = architecture.inner
    branches = sum(d * 2 * d + 2 * d * 2 * new for d in (old, side or old))
    return 2 * (branches + 4 * new * inner + inner * inner + inner * new)


def _num_items(example_inputs: Sequence[torch.Tensor | None]) -> int:
    first = example_inputs[0]
    if first is None:
        raise TypeError("the first example input is None; wanted a tensor whose first axis counts the items")
    return int(first.shape[0])
