"""What retrieval is judged by: the labels of a gallery and of the queries, numbers on both sides or names on both.

Owns: which column of a shard they are, and the names of a source's labels. Legend: G gallery items, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import SettingsError
from fct_ray.sources.items import Source

LabelArray = npt.NDArray[np.int64] | npt.NDArray[np.str_]


def labels_of_shard(table: pa.Table) -> LabelArray | None:
    """One label for each row: names before numbers, because another source may give a number to another name.

    Names are `label_name`, or a `label` of strings. None: there is no such column, or a row has no label.
    """
    for name in ("label_name", "label"):
        if name not in table.column_names or table[name].null_count:
            continue
        column = table[name]
        if pa.types.is_integer(column.type):
            return np.asarray(column.to_numpy(), dtype=np.int64)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return np.asarray(column.to_pylist(), dtype=np.str_)
    return None


def joined_labels(parts: Sequence[npt.NDArray[Any] | None]) -> LabelArray | None:
    """The labels of all shards, one after the other; None where a shard has none, or not of the others' kind."""
    labels = [part for part in parts if part is not None]
    if len(labels) < len(parts) or len({part.dtype.kind for part in labels}) > 1:
        return None
    joined: LabelArray = np.concatenate(labels)
    return joined


def comparable_labels(
    source: Source,
    positions_Q: npt.NDArray[np.int64],
    labels_Q: npt.NDArray[np.int64] | None,
    version: int,
    labels_G: LabelArray | None,
) -> tuple[LabelArray, LabelArray]:
    """Labels [Q] and [G] of queries and gallery: names where the gallery has names, else numbers.

    `positions_Q` are the places of the queries in `source`, `version` is the gallery's, for messages.

    Raises:
        SettingsError: one side has no labels, without which retrieval quality has no meaning, or only one side has names.
    """
    if labels_G is None:
        raise SettingsError(
            f"version {version}: its shards have no `label` column of numbers or strings for every row; want labels to "
            "measure retrieval: embed a labelled source"
        )
    if labels_Q is None:
        raise SettingsError(f"{source.spec}: has no labels; want labelled queries to measure retrieval")
    if labels_G.dtype.kind != "U":
        return labels_Q, labels_G
    numbers, first = np.unique(labels_Q, return_index=True)
    carried = source.read(positions_Q[first]).carried  # one item of each label: it knows the name
    if "label_name" not in carried:
        raise SettingsError(
            f"{source.spec}: its labels are numbers, those of version {version} are names such as {labels_G[0]!r}; want "
            "names on both sides: name a source of images in directories, or of Parquet with a column of strings"
        )
    names_Q = np.asarray(carried["label_name"], dtype=np.str_)[np.searchsorted(numbers, labels_Q)]
    return names_Q, labels_G
