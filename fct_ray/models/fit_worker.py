"""What a training loop sees of its surroundings, so that it knows no Ray: rank, device, data, progress, checkpoints.

`engine/trainer` gives a loop the real one; a test may give one that runs in its own process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import nn


class FitWorker(Protocol):
    """One worker of a fit."""

    rank: int
    world_size: int
    device: torch.device

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module as it is trained: gradients are averaged over all workers."""

    def batches(self, batch_rows: int, seed: int) -> Any:
        """One pass over this worker's share of the training data in shuffled batches (dicts of tensors)."""

    def tables(self) -> Iterator[Any]:
        """The worker's share of the training data as Arrow tables, in any order."""

    def tell(self, done: int, total: int, text: str) -> None:
        """Show how far the fit is; never waits."""

    def restore(self) -> dict[str, Any] | None:
        """The state of the last checkpoint, or None at the start."""

    def save(self, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write a checkpoint; all workers wait for each other."""

    def count(self, *, rows: int, flops: float) -> None:
        """Add work of this worker."""

    def mean(self, value: float) -> float:
        """The mean of a number over all workers."""
