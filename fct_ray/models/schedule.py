"""The learning rate over a fit: a linear rise, then a cosine to zero (the papers' schedule)."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_cosine(total_steps: int, warmup_share: float) -> Callable[[int], float]:
    """The factor on the peak learning rate at each step, for `LambdaLR`."""
    warmup = max(1, int(total_steps * warmup_share))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total_steps - warmup))))

    return factor
