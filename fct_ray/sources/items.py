"""What a source of raw items is, and what reading it gives.

    open_source("images:s3://bucket/photos")   driver: lists the items now   --> Source: its listing, ids and labels
    open_reader("images:s3://bucket/photos")   any process: lists nothing    --> Reader: reads the items of a listing

Owns: the types that every source shares. Knows no data set. Legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.key_types import UserIds
from fct_ray.sources.listing import IntArray, Listing


@dataclass(frozen=True, kw_only=True)
class Items:
    """Some items: what an encoder reads, and what a store carries along."""

    ids_N: IntArray
    """Unique in the source: where its items have keys, a hash of the key."""
    columns: Mapping[str, Any]
    """"image": uint8 NHWC array, or a list of HWC arrays of unequal size; or "text": list of str."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the shards, e.g. "label" (int64 array), "uri" (list of str)."""
    bytes_read: int = 0
    """Bytes that came from storage to read these items."""
    keys: UserIds | None = None
    """What the source calls them by, where that is no whole number."""

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
            keys=None if self.keys is None else self.keys.filter(pa.array(good_N)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """What the driver knows of every item of a listing."""

    ids_N: IntArray
    """Unique ids."""
    labels_N: IntArray | None
    """Labels, where the source has them."""
    keys: UserIds | None = None
    """What the source calls its items by, where that is no whole number; the ids are then hashes of these."""

    def take(self, positions_N: IntArray) -> Keys:
        """The same of some items."""
        return Keys(
            ids_N=self.ids_N[positions_N],
            labels_N=None if self.labels_N is None else self.labels_N[positions_N],
            keys=None if self.keys is None else self.keys.take(pa.array(positions_N)),
        )


class Reader(Protocol):
    """Reads the items of a listing: the objects that it names, in the versions that it names, and nothing else.

    It holds no listing, so it may live as long as its process.
    """

    @property
    def ids_are_paths(self) -> bool:
        """Whether each item is an object whose path gives the id, so that an object with new content is the same item."""

    @property
    def content(self) -> Literal["image", "text"]:
        """Which column of `Items.columns` the items have."""

    def list_items(self) -> tuple[Listing, Keys]:
        """All items of the source as they are now. Raises SourceError."""

    def keys(self, listing: Listing) -> Keys:
        """Ids and labels of a listing's items. Raises SourceError: an object was changed or deleted since it was listed."""

    def read(self, listing: Listing) -> Items:
        """The items of a listing, in its order.

        Raises:
            SourceError: an item cannot be read, or its object was changed or deleted since it was listed; names the object.
        """


@dataclass(frozen=True, kw_only=True)
class Source:
    """A fixed, ordered collection of raw items: what a source had when it was listed."""

    listing: Listing
    reader: Reader
    known: Keys | None = None
    """Ids and labels; None: read when they are first asked for."""

    @property
    def spec(self) -> str:
        """The source, as its user named it."""
        return self.listing.source.spec

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return self.listing.num_items

    @cached_property
    def keys(self) -> Keys:
        """Ids and labels of all items. Raises SourceError."""
        return self.known if self.known is not None else self.reader.keys(self.listing)

    @property
    def ids_N(self) -> IntArray:  # noqa: N802 (its shape)
        """Unique ids, in the order of positions. Raises SourceError."""
        return self.keys.ids_N

    @property
    def labels_N(self) -> IntArray | None:  # noqa: N802 (its shape)
        """Labels in the same order, where the source has them. Raises SourceError."""
        return self.keys.labels_N

    @property
    def user_ids(self) -> UserIds:
        """What the source calls its items by, in the same order: keys, or else the ids. Raises SourceError."""
        return pa.array(self.ids_N, pa.int64()) if self.keys.keys is None else self.keys.keys

    def read(self, positions_N: IntArray) -> Items:
        """The items at these positions, in this order. Raises SourceError for an item that cannot be read."""
        return self.reader.read(self.listing.take(positions_N))

    def take(self, positions_N: IntArray) -> Source:
        """The items at these positions as a source of their own."""
        return replace(self, listing=self.listing.take(positions_N), known=self.keys.take(positions_N))
