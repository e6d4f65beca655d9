"""Where the items of a store are in a source of raw items: by their ids, in a store with keys by their keys.

    ids of the store --> keys --> places of these keys among the items of the source

Owns: that, and what is said where the two call their items by ids of different types. Legend: P items of the store.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.errors import FormatError, SourceError
from fct_ray.key_types import WORDS, UserIds, texts
from fct_ray.kinds import KeyType
from fct_ray.sources.items import Source
from fct_ray.storage.keys import as_stored
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.keys import user_ids

IntArray = npt.NDArray[np.int64]


def positions_of(store: Store, manifest: Manifest, ids_P: IntArray, source: Source) -> IntArray:
    """Where the items with these ids are in a source; SourceError if it does not have one."""
    return places_of(user_ids(store, manifest, ids_P), source, manifest.keys)


def places_of(wanted: UserIds, source: Source, key_type: KeyType | None) -> IntArray:
    """Where the items that a store with keys of this type (None: without) calls so are in a source. Raises SourceError."""
    found_P = _found(wanted, ids_in_source(source, key_type))
    missing = np.flatnonzero(found_P < 0)
    if len(missing):
        first = texts(wanted.slice(int(missing[0]), 1))[0]
        raise SourceError(
            f"{source.spec}: has no item with id {first} ({len(missing):,} of {len(wanted):,} ids are missing); want the "
            "source that the store was embedded from"
        )
    return found_P


def are_in_source(store: Store, manifest: Manifest, ids_P: IntArray, source: Source) -> npt.NDArray[np.bool_]:
    """Which of these items a source has, bool [P]."""
    return _found(user_ids(store, manifest, ids_P), ids_in_source(source, manifest.keys)) >= 0


def ids_in_source(source: Source, key_type: KeyType | None) -> UserIds:
    """What a source calls its items by, in the type of a store's ids.

    Raises:
        SourceError: these are of different types.
    """
    try:
        return as_stored(source.user_ids, key_type, source.spec)
    except FormatError as error:
        raise SourceError(
            f"{source.spec}: calls its items by {source.user_ids.type}; wanted {WORDS[key_type]}, as the ids of this store "
            "are: name the column that has them (&id=COLUMN); for image folders ?id=path says that paths are the ids"
        ) from error


def _found(wanted: UserIds, there: UserIds) -> IntArray:
    """The place of each wanted id among those that are there, -1 where it is not."""
    return np.asarray(pc.fill_null(pc.index_in(wanted, value_set=there), -1).cast(pa.int64()).to_numpy())
