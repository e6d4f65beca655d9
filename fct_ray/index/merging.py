"""One FAISS file out of the files of all shards.

    IVF types                     lists are joined: in memory (`merge_from`), or on the disk, in a file of their own that the
                                  index reads as it is searched (OnDiskInvertedLists)
    Flat, and types like it       rows are appended, in memory
    others (HNSW, ...)            are built once more over all rows, in memory; `merge_kind` says so before

Owns: which of these a type allows, and doing it. Knows no store: paths of local files in, one file out.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from faiss.contrib.ondisk import merge_ondisk

from fct_ray.errors import FormatError
from fct_ray.index.build import checked_index
from fct_ray.index.factory import empty_index, inside_wrappers, inverted_file
from fct_ray.kinds import Metric


class MergeKind(StrEnum):
    """How the files of a type become one."""

    LISTS = "lists"
    """Inverted lists: in memory or on the disk."""
    ROWS = "rows"
    """Rows are appended in memory."""
    BUILT_AGAIN = "built again"
    """All rows are added to one new index, in memory."""


def merge_kind(factory: str, dimension: int, metric: Metric) -> MergeKind:
    """How indexes of a type are merged. Raises SettingsError: FAISS cannot build it."""
    index = empty_index(factory, dimension, metric)
    if isinstance(index, faiss.IndexIVF) and not isinstance(index, faiss.IndexIVFFastScan):
        return MergeKind.LISTS
    inner: Any = inside_wrappers(index)
    is_flat = isinstance(index, faiss.IndexIDMap) and type(faiss.downcast_index(index.index)) is type(inner)
    return MergeKind.ROWS if is_flat and isinstance(inner, faiss.IndexFlat) else MergeKind.BUILT_AGAIN


def row_bytes(factory: str, dimension: int, metric: Metric) -> int:
    """About how much memory a row of a merged index takes, with its id."""
    index = empty_index(factory, dimension, metric)
    inner = inside_wrappers(index)
    links = 8 * inner.hnsw.nb_neighbors(1) + 64 if isinstance(inner, faiss.IndexHNSW) else 0  # type: ignore[attr-defined]
    stored = faiss.downcast_index(inner.storage) if isinstance(inner, faiss.IndexHNSW) else inner
    return int(stored.sa_code_size()) + 8 + links


def merge_in_memory(parts: Sequence[str], file: str) -> None:
    """Merge index files of one version into one; needs memory for all of them. Raises FormatError."""
    merged = _read(parts[0])
    for path in parts[1:]:
        part = _read(path)
        try:
            merged.merge_from(part, 0)
        except RuntimeError as error:
            raise FormatError(
                f"{path} cannot be merged with {parts[0]}: {str(error)[-200:]}; build both again"
            ) from error
    faiss.write_index(merged, file)


def merge_on_disk(template: bytes, parts: Sequence[str], file: str, lists_file: str) -> None:
    """Merge index files of an IVF type; rows go to `lists_file`, which `file` names and reads. Raises FormatError."""
    index = faiss.deserialize_index(np.frombuffer(template, dtype=np.uint8))
    Path(lists_file).unlink(missing_ok=True)
    try:
        with _stdout_to_stderr():
            merge_ondisk(index, list(parts), lists_file)
    except (RuntimeError, AssertionError) as error:
        raise FormatError(f"{file}: its parts cannot be merged: {str(error)[-200:]}; run the export again") from error
    faiss.write_index(index, file)


def count_rows(file: str, *, lists_apart: bool) -> int:
    """Rows of an index file; its lists are not loaded. `lists_apart`: they are in a file of their own (`merge_on_disk`)."""
    return int(_read(file, memory_map=not lists_apart).ntotal)


def rows_of(
    file: str, ids_N: npt.NDArray[np.int64], *, lists_apart: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
    """Those of the ids that an index file has, and their vectors; None where its type compresses them."""
    index = _read(file, memory_map=not lists_apart)
    if isinstance(index, faiss.IndexIDMap):
        return _rows_of_map(index, ids_N)
    inverted, exact = inverted_file(index), isinstance(index, faiss.IndexIVFFlat)
    ids, vectors = [], []
    lists = inverted.invlists  # type: ignore[union-attr] # what is no map of ids has lists: both carry the store's ids
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if not size:
            continue
        in_list_N = faiss.rev_swig_ptr(lists.get_ids(number), size)
        rows = np.flatnonzero(np.isin(in_list_N, ids_N))
        if len(rows):
            ids.append(in_list_N[rows].copy())
            if exact:
                codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
                vectors.append(codes.view(np.float32).reshape(size, index.d)[rows].copy())
    found_N = np.concatenate(ids) if ids else np.empty(0, np.int64)
    if not exact:
        return found_N, None
    return found_N, np.concatenate(vectors) if vectors else np.empty((0, index.d), np.float32)


def all_rows(file: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ids and vectors of a Flat index file with ids."""
    index = _read(file)
    vectors_ND = faiss.downcast_index(index.index).reconstruct_n(0, int(index.ntotal))
    return faiss.vector_to_array(index.id_map), vectors_ND


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """FAISS prints the size of the file of lists to standard output, where programs expect nothing but our JSON."""
    c_library = ctypes.CDLL(None)
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        c_library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _rows_of_map(
    index: Any, ids_N: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
    map_N = faiss.vector_to_array(index.id_map)
    rows = np.flatnonzero(np.isin(map_N, ids_N))
    inner = faiss.downcast_index(index.index)
    if not isinstance(inner, faiss.IndexFlat | faiss.IndexHNSWFlat):
        return map_N[rows], None
    vectors = [inner.reconstruct(int(row)) for row in rows]
    return map_N[rows], np.stack(vectors) if vectors else np.empty((0, index.d), np.float32)


def _read(path: str, *, memory_map: bool = False) -> Any:
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if memory_map else faiss.IO_FLAG_READ_ONLY
    try:  # with IO_FLAG_MMAP an index whose lists lie apart is read, and ends the process at its first search (faiss 1.15)
        return checked_index(faiss.read_index(path, flags), path)
    except (RuntimeError, MemoryError) as error:
        raise FormatError(
            f"{path} cannot be read as a FAISS index: {str(error)[-200:]}; run the export again"
        ) from error
