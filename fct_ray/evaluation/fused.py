"""Fused search of old embedding and side-information: the control in which nothing is fitted.

A gallery that stores (old, side) can be searched by both at once, with queries of the old and of the
side-information model: cos(old, old')/2 + cos(side, side')/2. In trials on text this beat every transformation
of the old index; a transformation that cannot beat it is not worth publishing.

Shapes: N rows, D dimensions of old, S of side-information.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import SettingsError


def fuse(old_ND: NDArray[np.float32], side_NS: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both L2-normalised, each weighted 1/sqrt(2), side by side: float32 [N, D + S] of length 1.

    The inner product of two fused vectors is the mean of the two cosines. Zero vectors stay zero.

    Raises:
        SettingsError: the numbers of rows differ.

    Examples:
        >>> fuse(np.array([[3.0, 4.0]]), np.array([[1.0]])).round(3)
        array([[0.424, 0.566, 0.707]], dtype=float32)
    """
    if old_ND.ndim != 2 or side_NS.ndim != 2 or len(old_ND) != len(side_NS):
        raise SettingsError(
            f"old {old_ND.shape} and side-information {side_NS.shape} cannot be fused; give two [rows, dimensions] "
            "arrays of the same items"
        )
    weight = np.float32(np.sqrt(0.5))
    return np.concatenate([weight * normalized(old_ND), weight * normalized(side_NS)], axis=1)


def normalized(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their Euclidean length, float32 [N, D]; zero rows stay zero."""
    float_ND: NDArray[np.float32] = np.asarray(embeddings_ND, dtype=np.float32)
    lengths_N = np.linalg.norm(float_ND, axis=1, keepdims=True)
    lengths_N[lengths_N == 0] = 1
    unit_ND: NDArray[np.float32] = float_ND / lengths_N
    return unit_ND
