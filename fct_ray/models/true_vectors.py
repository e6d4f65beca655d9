"""True vectors: items whose embeddings by the new model are known, and stand in a version in the place of h's output.

    h alone                     the whole vector is the true one, of unit length where the version's are
    joined blocks, one of h     the columns of that block, at its length and with its projection; the others stay
    nothing of the new model    none: what a query brings has nothing to meet it with

Each is tied to the old vector that the item had when it was embedded: where an item was replaced under the same id, its
old vector is another one, and it goes through h like any other.

Owns: the arrays, which rows they belong to, and putting them in. Does not import torch.

Shapes: T true vectors, N rows of a shard, K of them that have a true vector, O dim of old, W dim of the new model, V dim
of the version.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.models.query_map import QueryMap

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
NEW = "new"
"""The role of the new model's embeddings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueVectors:
    """Embeddings of items by the new model, ascending by id."""

    ids_T: IntArray
    old_crc32_T: IntArray
    """The CRC-32 of each item's old vector: of its float32 numbers, little-endian."""
    new_TW: FloatArray

    @staticmethod
    def of(ids_N: IntArray, old_NO: FloatArray, new_NW: FloatArray) -> TrueVectors:
        """Those of these items, whose ids are unique; embeddings that are not finite are left out."""
        rows = np.argsort(ids_N, kind="stable")
        rows = rows[np.isfinite(new_NW[rows]).all(axis=1)]
        new_TW = np.ascontiguousarray(new_NW[rows], dtype=np.float32)
        return TrueVectors(ids_T=ids_N[rows], old_crc32_T=crc32_of(old_NO[rows]), new_TW=new_TW)

    def without(self, ids_N: IntArray) -> TrueVectors:
        """The same but for items with these ids."""
        kept_T = ~np.isin(self.ids_T, ids_N)
        return TrueVectors(ids_T=self.ids_T[kept_T], old_crc32_T=self.old_crc32_T[kept_T], new_TW=self.new_TW[kept_T])

    def of_rows(self, ids_N: IntArray, old_NO: FloatArray) -> KnownRows:
        """Which of these rows have a true vector, and theirs."""
        rows_K, positions_K = matching(self.ids_T, self.old_crc32_T, ids_N, old_NO)
        return KnownRows(rows_K=rows_K, new_KW=self.new_TW[positions_K])


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRows:
    """Rows whose true vectors are known."""

    rows_K: IntArray
    """Their positions among the rows at hand."""
    new_KW: FloatArray


def matching(ids_T: IntArray, old_crc32_T: IntArray, ids_N: IntArray, old_NO: FloatArray) -> tuple[IntArray, IntArray]:
    """(rows_K, positions_K): rows whose id is among `ids_T` with the same old vector, and where it stands there."""
    if len(ids_T) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at_N = np.minimum(np.searchsorted(ids_T, ids_N), len(ids_T) - 1)
    rows_K = np.flatnonzero(ids_T[at_N] == ids_N)
    rows_K = rows_K[crc32_of(old_NO[rows_K]) == old_crc32_T[at_N[rows_K]]]
    return rows_K, at_N[rows_K]


def crc32_of(old_NO: FloatArray) -> IntArray:
    """The CRC-32 of each row's float32 numbers, little-endian, [N]."""
    rows: Iterable[npt.NDArray[np.float32]] = np.ascontiguousarray(old_NO, dtype="<f4")
    return np.fromiter((zlib.crc32(row.tobytes()) for row in rows), dtype=np.int64, count=len(old_NO))


def can_hold(queries: QueryMap) -> bool:
    """Whether a version with these queries has a place for true vectors: its queries bring the new model's embedding."""
    return NEW in queries.needs


def put_in(vectors_NV: FloatArray, known: KnownRows, queries: QueryMap, *, normalized: bool) -> None:
    """Write the true vectors over what h made of their rows; `normalized` says whether the version's have unit length.

    `queries` is the map of the version: what it makes of a query's new embedding is what an item's true vector becomes.
    """
    if len(known.rows_K) == 0 or not can_hold(queries):
        return
    parts = list(queries.stored_parts(NEW, known.new_KW))
    if not parts:  # no joined blocks: the whole vector
        lengths_K1 = np.linalg.norm(known.new_KW, axis=1, keepdims=True)
        parts = [(slice(None), known.new_KW / np.maximum(lengths_K1, 1e-12) if normalized else known.new_KW)]
    for columns, rows_KV in parts:
        vectors_NV[known.rows_K, columns] = rows_KV


def are_in(vectors_NV: FloatArray, known: KnownRows, queries: QueryMap, *, normalized: bool) -> npt.NDArray[np.bool_]:
    """Which of the known rows hold their true vector already, bool [K]."""
    expected_NV = vectors_NV.copy()
    put_in(expected_NV, known, queries, normalized=normalized)
    return np.asarray((expected_NV[known.rows_K] == vectors_NV[known.rows_K]).all(axis=1))
