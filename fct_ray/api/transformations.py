"""A fitted transformation h as a function of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fct_ray.errors import SettingsError
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.shards.model_directory import load_model


class Transformation:
    """h: (old embedding, side-information) -> the new model's space. Made by `load_transformation`."""

    def __init__(self, uri: str) -> None:
        """Load h from a model directory; see `load_transformation`."""
        model = load_model(uri)
        architecture = model.transformation().architecture
        self.uri, self.name, self.fingerprint = uri, model.document.name, model.document.fingerprint
        self.old_dimension, self.side_dimension = architecture.old_dimension, architecture.side_dimension
        self.new_dimension = architecture.new_dimension
        self._runner = TransformRunner(model, batch_rows=4096)

    def __call__(self, old: npt.ArrayLike, side: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
        """Transformed embeddings, float32 [N, new_dimension].

        `old` is [N, old_dimension], `side` [N, side_dimension] (None where h reads no side-information).

        Raises:
            SettingsError: an array has another shape.
        """
        old_ND = self._checked("old", old, self.old_dimension)
        if (side is None) != (self.side_dimension == 0):
            wanted = f"[N, {self.side_dimension}]" if self.side_dimension else "none: leave it out"
            raise SettingsError(f"side-information is {'missing' if side is None else 'given'}; h wants {wanted}")
        side_NS = None if side is None else self._checked("side", side, self.side_dimension)
        if side_NS is not None and len(side_NS) != len(old_ND):
            raise SettingsError(f"old has {len(old_ND)} rows and side {len(side_NS)}; want as many of each")
        return self._runner.run(old_ND, side_NS)[0]

    def __repr__(self) -> str:
        """Name and dimensions."""
        side = f" + {self.side_dimension}" if self.side_dimension else ""
        return f"<Transformation {self.name}: {self.old_dimension}{side} -> {self.new_dimension}>"

    @staticmethod
    def _checked(name: str, values: npt.ArrayLike, dimension: int) -> npt.NDArray[np.float32]:
        array = np.ascontiguousarray(values, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != dimension:
            raise SettingsError(f"{name} has shape {array.shape}; h wants [N, {dimension}]")
        return array


def load_transformation(uri: str | Path) -> Transformation:
    """The transformation in a model directory, local or s3://, ready to be called with arrays.

    A store keeps the h of each upgrade in `<store>/models/`; `UpgradeResult.transformation` is the one of an upgrade.

    Raises:
        NotFoundError: there is no model.
        ModelError: it is damaged, or an encoder.
    """
    return Transformation(str(uri))
