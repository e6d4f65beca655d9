"""Linear transformations that need no gradient: the orthogonal map between two models, and none at all.

Owns: their algebra, in float64. The ridge is in `fct_ray/models/ridge.py`.

Shapes: N rows, O dim of old, W dim of new.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fct_ray.errors import FitError, SettingsError
from fct_ray.models.architectures import TransformationArchitecture
from fct_ray.models.transformation import LinearTransformation


def procrustes(
    old_NO: NDArray[np.floating], new_NW: NDArray[np.floating], *, normalized: bool = True
) -> LinearTransformation:
    """The map old -> old R with the R of orthonormal rows or columns that brings old nearest to new; in eval mode.

    R = U V^T from the singular value decomposition U s V^T of old^T new. Where W >= O all inner products of old stay
    as they are, so an old index keeps its neighbours.

    Raises: FitError for no rows, or another number of old rows than of new ones.

    Paper: Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966.
    """
    if len(old_NO) != len(new_NW) or len(old_NO) == 0:
        raise FitError(
            f"an orthogonal map got {len(old_NO)} old and {len(new_NW)} new rows; wanted as many, and at least one"
        )
    left_OK, _, right_KW = np.linalg.svd(old_NO.astype(np.float64).T @ new_NW.astype(np.float64), full_matrices=False)
    return _linear(left_OK @ right_KW, normalized)


def identity(old_dimension: int, new_dimension: int, *, normalized: bool = True) -> LinearTransformation:
    """The first `new_dimension` coordinates of old: for models whose vectors can be compared as they are.

    Raises: SettingsError where new has more dimensions than old; the query must be truncated then.
    """
    if new_dimension > old_dimension:
        raise SettingsError(
            f"new vectors have {new_dimension} dimensions and old ones {old_dimension}; wanted no more than those: use "
            f'block("h", weight, identity({old_dimension}, {old_dimension}), query_dimension={new_dimension})'
        )
    return _linear(np.eye(old_dimension, new_dimension), normalized)


def _linear(weights_OW: NDArray[np.float64], normalized: bool) -> LinearTransformation:
    old_dimension, new_dimension = weights_OW.shape
    module = LinearTransformation(
        TransformationArchitecture(
            kind="linear", old_dimension=old_dimension, new_dimension=new_dimension, normalized=normalized
        )
    )
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(weights_OW.T.copy()))
        module.linear.bias.zero_()
    return module.eval()
