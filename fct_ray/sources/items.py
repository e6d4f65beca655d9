"""What a source of raw items is, and what reading it gives.

Owns: the two types that every source shares. Knows no data set. Legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Items:
    """Some items: what an encoder reads, and what a store carries along."""

    ids_N: IntArray
    columns: Mapping[str, Any]
    """"image": uint8 NHWC array, or a list of HWC arrays of unequal size; or "text": list of str."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the shards, e.g. "label" (int64 array), "uri" (list of str)."""
    bytes_read: int = 0
    """Bytes that came from storage for these items."""

    def rows(self, good_N: npt.NDArray[np.bool_]) -> Items:
        """The items where the mask is true."""

        def chosen(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                return values[good_N]
            return [value for value, good in zip(values, good_N, strict=True) if good]

        return replace(
            self,
            ids_N=self.ids_N[good_N],
            columns={name: chosen(values) for name, values in self.columns.items()},
            carried={name: chosen(values) for name, values in self.carried.items()},
        )


class Source(Protocol):
    """A fixed, ordered collection of raw items; opened by its spec in every worker."""

    spec: str
    ids_N: IntArray
    """Unique ids, in the order of positions."""
    labels_N: IntArray | None
    """Labels in the same order, where the source has them."""

    @property
    def num_items(self) -> int:
        """How many items there are."""

    def read(self, positions_N: IntArray) -> Items:
        """The items at these positions, in this order. Raises SourceError for an item that cannot be read."""
