"""Search over all shards of a version, exact search without an index, and what an index file contains.

Owns: merging per-shard results, default search effort, recall. Knows no store: index files come as bytes or local
paths, galleries as chunks of arrays.

Shapes: Q queries, K neighbours, N rows, D dimension. Scores are inner products (larger is nearer) or squared Euclidean
distances (smaller is nearer); results are best first, equal scores by smaller id, and missing neighbours have
id -1 and the worst possible score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from fct_ray.errors import FormatError, SettingsError
from fct_ray.index.build import NO_ID, checked_index, parse_index
from fct_ray.index.factory import faiss_metric, inside_wrappers, inverted_file
from fct_ray.kinds import Metric

LISTS_PER_PROBE = 32
MIN_PROBES = 8
"""Recall@10 seen on 50,000 Fashion-MNIST images (64 principal components, normalised, inner product) with 8 lists of
64, 8 of 256 and 32 of 1024: 0.999, 0.993, 1.000; with 2 of 64: 0.927, with 8 of 1024: 0.966."""
MIN_EF_SEARCH = 64
REFINE_FACTOR = 4
"""Refining types (RFlat) rescore this many times k candidates per shard."""

_MERGED_IVF: Any = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexContents:
    """What an index file holds, for verification against its shard and its manifest."""

    ids_N: IdArray
    """Ascending."""
    dimension: int
    ntotal: int
    metric: Metric
    trained_sha256: str | None
    """SHA-256 of the index with its rows removed: equals the trained file's if it was built from that. None for
    fast-scan codes (PQ8x4fs), whose files keep traces of removed rows."""


def describe(data: bytes, name: str = "index file") -> IndexContents:
    """Ids, dimension, rows and metric of a FAISS file; empties its own copy, so it needs memory for one shard.

    Raises:
        FormatError: not a FAISS index, of another metric, or without ids of its own.
    """
    index = parse_index(data, name)
    ids_N = np.sort(_ids_of(index, name))
    ntotal, metric = int(index.ntotal), _metric_of(index, name)
    dimension = int(index.d)
    fast_scan = isinstance(inside_wrappers(index), faiss.IndexFastScan | faiss.IndexIVFFastScan)
    index.reset()
    trained_sha256 = None if fast_scan else hashlib.sha256(bytes(faiss.serialize_index(index))).hexdigest()
    return IndexContents(ids_N=ids_N, dimension=dimension, ntotal=ntotal, metric=metric, trained_sha256=trained_sha256)


class ShardedIndex:
    """All shard indexes of one version, searched as one.

    Shards of IVF types (without a rotation) that were trained together are merged while they are loaded, so a search costs
    what it costs in one index over all rows; the others are searched one after the other. For Flat that is no loss: a
    single query takes a sixth longer in 25 shards, a batch of 200 a third of the time.
    """

    def __init__(self, files: Iterable[bytes | str], *, memory_map: bool = False, merge: bool = True) -> None:
        """Load one version's index files: contents (bytes) or local paths (str), in shard order.

        `memory_map` leaves the inverted lists of files given by path on disk (IVF types only), where nothing is merged.

        Raises:
            FormatError: one is missing or not a FAISS index, or they do not belong together.
            SettingsError: there are none.
        """
        self._indexes: list[Any] = []
        space: tuple[int, Metric] | None = None
        last_learned: bytes | None = None
        for number, file in enumerate(files):
            index = _load(file, number, memory_map=memory_map)
            seen = (int(index.d), _metric_of(index, f"index {number}"))
            space = space or seen
            if seen != space:
                raise FormatError(
                    f"index {number} has dimension and metric {seen}, index 0 has {space}: they belong to "
                    f"different versions; search the files of one manifest"
                )
            learned = _training(index) if merge and not memory_map else None
            if learned is not None and self._indexes and learned == last_learned:
                with _faiss_errors(f"index {number}"):
                    self._indexes[-1].merge_from(index, 0)
            else:
                self._indexes.append(index)
                last_learned = learned
        if space is None:
            raise SettingsError("no index files, wanted one per shard: use exact_search for a version without an index")
        self.dimension, self.metric = space

    @property
    def ntotal(self) -> int:
        """Rows over all shards."""
        return sum(int(index.ntotal) for index in self._indexes)

    def search(self, queries_QD: npt.ArrayLike, k: int, nprobe: int | None = None) -> tuple[FloatArray, IdArray]:
        """The k nearest ids over all shards: (scores float32 [Q, K], ids int64 [Q, K]).

        `nprobe` is the number of inverted lists visited per shard (IVF types); None takes `default_nprobe`. Shards of
        one version share their lists, so the result is that of one index over all rows. Several threads may search at once.

        Raises:
            SettingsError: k or nprobe below 1, or queries of another dimension.
            FormatError: FAISS cannot search it.
        """
        queries_QD = _checked_queries(queries_QD, self.dimension, k)
        if nprobe is not None and nprobe < 1:
            raise SettingsError(f"nprobe is {nprobe}, wanted 1 or more, or None for the default")
        merger = _Merger(len(queries_QD), k, self.metric)
        for number, index in enumerate(self._indexes):
            with _faiss_errors(f"index {number}"):
                merger.add(*index.search(queries_QD, k, params=_search_parameters(index, k, nprobe)))
        return merger.scores_QK, merger.ids_QK


@contextmanager
def _faiss_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise FormatError(
            f"{name} cannot be used: {str(error)[-200:]}. Rebuild it from its shard; with very many queries or a large k, "
            "search with fewer"
        ) from error


def _training(index: Any) -> bytes | None:
    """Type and all that an index learned before rows came in: equal ones may be merged. None for types that are not."""
    if not isinstance(index, _MERGED_IVF) or isinstance(index, faiss.IndexIVFFastScan):
        return None
    learned = type(index).__name__.encode() + bytes(faiss.serialize_index(index.quantizer))
    if isinstance(index, faiss.IndexIVFPQ):
        learned += bytes(faiss.vector_to_array(index.pq.centroids).tobytes())
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        learned += bytes(faiss.vector_to_array(index.sq.trained).tobytes())
    return learned


def default_nprobe(nlist: int) -> int:
    """Inverted lists to visit: one in 32, at least 8, never more than there are."""
    return min(nlist, max(MIN_PROBES, nlist // LISTS_PER_PROBE))


def exact_search(
    chunks: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], queries_QD: npt.ArrayLike, k: int, metric: Metric
) -> tuple[FloatArray, IdArray]:
    """Brute force over chunks of (ids [N], embeddings [N, D]): (scores [Q, K], ids [Q, K]); one chunk in memory.

    Raises:
        SettingsError: k below 1, or queries and a chunk of different dimensions.
    """
    queries = np.asarray(queries_QD)
    queries_QD = _checked_queries(queries, queries.shape[-1], k)
    merger = _Merger(len(queries_QD), k, metric)
    for ids_N, embeddings_ND in chunks:
        rows_ND, ids = np.ascontiguousarray(embeddings_ND, dtype=np.float32), np.asarray(ids_N, dtype=np.int64)
        if rows_ND.ndim != 2 or rows_ND.shape[1] != queries_QD.shape[1]:
            raise SettingsError(f"gallery has shape {rows_ND.shape}, queries have dimension {queries_QD.shape[1]}")
        if len(ids) == 0 or len(queries_QD) == 0:
            continue
        scores_QK, rows_QK = faiss.knn(queries_QD, rows_ND, min(k, len(ids)), metric=faiss_metric(metric))
        merger.add(scores_QK, ids[rows_QK])
    return merger.scores_QK, merger.ids_QK


def recall(found_QK: npt.ArrayLike, truth_QK: npt.ArrayLike) -> float:
    """Mean share of each query's true neighbours that were found, order ignored; -1 in the truth does not count.

    Raises:
        SettingsError: different numbers of queries, or no true neighbour at all.
    """
    found, truth = np.asarray(found_QK), np.asarray(truth_QK)
    if len(found) != len(truth):
        raise SettingsError(f"{len(found)} queries found against {len(truth)} true, wanted the same queries")
    shares = [
        np.isin(true_K[true_K != NO_ID], found_K).mean()
        for found_K, true_K in zip(found, truth, strict=True)
        if (true_K != NO_ID).any()
    ]
    if not shares:
        raise SettingsError("no true neighbours to recall: the gallery or the query set is empty")
    return float(np.mean(shares))


def _load(file: bytes | str, number: int, *, memory_map: bool) -> Any:
    if isinstance(file, bytes):
        return parse_index(file, f"index {number}")
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if memory_map else 0
    try:
        index = faiss.read_index(file, flags)
    except (RuntimeError, MemoryError) as error:
        raise FormatError(f"{file} cannot be read as a FAISS index: {str(error)[-200:]}. Rebuild it") from error
    return checked_index(index, file)


class _Merger:
    """The best k of everything seen so far, per query."""

    def __init__(self, num_queries: int, k: int, metric: Metric) -> None:
        self.sign = -1.0 if metric is Metric.IP else 1.0
        self.scores_QK: FloatArray = np.full((num_queries, k), np.float32(self.sign * np.inf), dtype=np.float32)
        self.ids_QK: IdArray = np.full((num_queries, k), NO_ID, dtype=np.int64)

    def add(self, scores_QK: FloatArray, ids_QK: IdArray) -> None:
        k = self.ids_QK.shape[1]
        scores = np.concatenate([self.scores_QK, scores_QK], axis=1)
        ids = np.concatenate([self.ids_QK, ids_QK], axis=1)
        scores[ids == NO_ID] = self.sign * np.inf
        order = np.lexsort((ids, self.sign * scores, ids == NO_ID), axis=1)[:, :k]
        self.scores_QK = np.take_along_axis(scores, order, axis=1)
        self.ids_QK = np.take_along_axis(ids, order, axis=1)


def _checked_queries(queries_QD: npt.ArrayLike, dimension: int, k: int) -> FloatArray:
    queries = np.ascontiguousarray(queries_QD, dtype=np.float32)
    if k < 1:
        raise SettingsError(f"k is {k}, wanted 1 or more")
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise SettingsError(f"queries have shape {queries.shape}, wanted (queries, {dimension}): use the right encoder")
    return queries


def _search_parameters(index: Any, k: int, nprobe: int | None) -> Any | None:
    """What FAISS takes with one search of `index`, for its type; None where there is nothing to choose.

    An attribute of the index itself (`index.nprobe`) would change under searches of other threads.
    """
    parameters: Any = faiss  # the type stubs of FAISS lack these classes' keyword arguments
    if isinstance(index, faiss.IndexIDMap):
        return _search_parameters(faiss.downcast_index(index.index), k, nprobe)
    if isinstance(index, faiss.IndexPreTransform):
        inner = _search_parameters(faiss.downcast_index(index.index), k, nprobe)
        return None if inner is None else parameters.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _search_parameters(faiss.downcast_index(index.base_index), REFINE_FACTOR * k, nprobe)
        return parameters.IndexRefineSearchParameters(k_factor=REFINE_FACTOR, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        visited = default_nprobe(index.nlist) if nprobe is None else min(nprobe, index.nlist)
        return parameters.SearchParametersIVF(nprobe=visited)
    if isinstance(index, faiss.IndexHNSW):
        return parameters.SearchParametersHNSW(efSearch=max(MIN_EF_SEARCH, 2 * k))
    return None


def _metric_of(index: Any, name: str) -> Metric:
    for metric in Metric:
        if index.metric_type == faiss_metric(metric):
            return metric
    raise FormatError(f"{name} has FAISS metric {index.metric_type}, wanted inner product (0) or L2 (1)")


def _ids_of(index: Any, name: str) -> IdArray:
    if isinstance(index, faiss.IndexIDMap):
        return np.asarray(faiss.vector_to_array(index.id_map), dtype=np.int64)
    inverted = inverted_file(index)
    if inverted is None:
        raise FormatError(
            f"{name} is a {type(index).__name__} without ids of its own, wanted IDMap2 or IVF: rebuild it"
        )
    lists = inverted.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
        for number in range(inverted.nlist)
        if (size := lists.list_size(number))
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)
