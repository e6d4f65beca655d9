"""Seeds of every random generator that fitting touches.

Owns: which generators there are. Knows no worker rank: a fit that wants different augmentation per worker
passes `seed + rank` to its own `torch.Generator` and the same `seed` here, so that all workers start from
the same weights.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch (all devices) and fixes cuDNN's choice of kernels.

    On one machine type and one number of threads, a fit that follows is repeatable.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below us use the global generator
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own, for augmentation and shuffling."""
    return torch.Generator().manual_seed(seed)
