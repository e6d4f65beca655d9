"""The vectors that an index file of somebody else keeps as they were put in, with their ids, a span of rows at a time.

    Flat, HNSW,Flat, NSG,Flat     rows in the order in which they were added
    IVF,Flat                      rows list after list
    ...,RFlat                     rows of the exact vectors beside the codes
    IDMap, IDMap2 around these    the ids of the map

Other types keep codes, from which no vector comes back as it was; they are refused with the reason. Owns: which types these
are. The file is mapped into memory, so that only the rows that are asked for are read. Legend: N rows, D dimension.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from fct_ray.errors import FormatError
from fct_ray.index.build import checked_index
from fct_ray.kinds import Metric

_FLAT: Any = (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2, faiss.IndexFlat1D)
_GRAPHS: Any = (faiss.IndexHNSWFlat, faiss.IndexNSGFlat)
_METRICS = {faiss.METRIC_INNER_PRODUCT: Metric.IP, faiss.METRIC_L2: Metric.L2}
_MAPPED = faiss.IO_FLAG_READ_ONLY | getattr(faiss, "IO_FLAG_MMAP_IFC", 0)
"""Older versions of FAISS (before 1.11) cannot map Flat files, and read them whole."""


class KeptVectors:
    """An index file, opened for reading rows."""

    def __init__(self, path: str) -> None:
        """Map the file.

        Raises:
            FormatError: no FAISS index, one that contradicts itself, or of a type or metric that cannot be read here.
        """
        try:
            self._index = checked_index(faiss.read_index(path, _MAPPED), path)
        except (RuntimeError, MemoryError) as error:
            raise FormatError(
                f"{path} cannot be read as a FAISS index of vectors: {str(error)[-200:]}. Indexes of binary codes hold bits, "
                "from which no vector comes back"
            ) from error
        self._map_N, inner = _unmapped(self._index)
        self._flat, self._lists = _exact(inner, path)
        if self._index.metric_type not in _METRICS:
            raise FormatError(
                f"{path} compares by FAISS's metric {self._index.metric_type}; wanted inner product (0) or L2 (1)"
            )
        self._ends = None if self._lists is None else _ends_of(self._lists)

    @property
    def num_rows(self) -> int:
        """All rows of the file."""
        return int(self._index.ntotal)

    @property
    def metric(self) -> Metric:
        """How it compares."""
        return _METRICS[self._index.metric_type]

    @property
    def files(self) -> tuple[str, ...]:
        """Files beside this one that it reads its lists from."""
        lists = None if self._lists is None else faiss.downcast_InvertedLists(self._lists)
        return (str(lists.filename),) if isinstance(lists, faiss.OnDiskInvertedLists) else ()

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Ids [N] and vectors [N, D] of rows `start` to `stop` (not included)."""
        if self._lists is None:
            ids_N = np.arange(start, stop, dtype=np.int64)
            vectors_ND = self._flat.reconstruct_n(start, stop - start)
        else:
            ids_N, vectors_ND = self._rows_of_lists(start, stop)
        if self._map_N is not None:
            ids_N = self._map_N[ids_N]
        return ids_N, vectors_ND

    def _rows_of_lists(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        lists, ends = self._lists, self._ends
        assert ends is not None  # noqa: S101 (an index with lists has their ends)
        ids, vectors = [np.empty(0, np.int64)], [np.empty((0, self._index.d), np.float32)]
        for number in range(int(np.searchsorted(ends, start, side="right")), lists.nlist):
            size = lists.list_size(number)
            before = int(ends[number]) - size
            if before >= stop:
                break
            if not size:
                continue
            rows = slice(max(start - before, 0), min(stop - before, size))
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
            vectors.append(codes.view(np.float32).reshape(size, self._index.d)[rows])
            ids.append(faiss.rev_swig_ptr(lists.get_ids(number), size)[rows])
        return np.concatenate(ids), np.concatenate(vectors)


def _unmapped(index: Any) -> tuple[npt.NDArray[np.int64] | None, Any]:
    """The ids of a map around an index, by its row numbers, and the index inside."""
    if not isinstance(index, faiss.IndexIDMap):
        return None, index
    return faiss.vector_to_array(index.id_map), faiss.downcast_index(index.index)


def _exact(index: Any, path: str) -> tuple[Any, Any]:
    """(index of rows, None) or (None, inverted lists), whichever holds the vectors as they were put in."""
    if type(index) is faiss.IndexIVFFlat:  # its subclasses lay vectors out in other ways
        return None, index.invlists
    held = index
    if isinstance(index, faiss.IndexRefine):
        held = faiss.downcast_index(index.refine_index)
    elif isinstance(index, _GRAPHS):
        held = faiss.downcast_index(index.storage)
    if type(held) in _FLAT:
        return held, None
    name = type(index).__name__.removeprefix("Index")
    if isinstance(index, faiss.IndexPreTransform):
        reason = "it keeps vectors after a transformation (a rotation, PCA, or scaling), not as they were put in"
    else:
        reason = "it keeps codes, from which vectors do not come back as they were put in"
    raise FormatError(
        f"{path} is a FAISS index of type {name}: {reason}. Wanted: Flat, IVF,Flat or HNSW,Flat, with or without IDMap, or "
        f"any type with RFlat. Import the vectors from where this index was made from; if they are gone, embed again "
        "(fct-ray backfill)"
    )


def _ends_of(lists: Any) -> npt.NDArray[np.int64]:
    """How many rows there are up to the end of each list."""
    return np.cumsum([lists.list_size(number) for number in range(lists.nlist)], dtype=np.int64)


def size_and_time(path: str) -> str:
    """What tells a changed file."""
    found = Path(path).stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"
