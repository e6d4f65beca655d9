"""What a FAISS factory string means for a store: can it be built, must it be trained, on how many rows.

Owns: the judgement of factory strings and the empty index that carries the store's ids. Knows no shards and no files.
The grammar is FAISS's own (https://github.com/facebookresearch/faiss/wiki/The-index-factory); whether a string works
is decided by building it, not by a list of ours.

Units: rows; dimensions are numbers of float32 components.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import faiss

from fct_ray.errors import SettingsError
from fct_ray.kinds import Metric

ROWS_PER_CENTROID = 64
"""FAISS warns below 39 training rows per centroid and drops rows above 256."""
MIN_SAMPLE_ROWS = 10_000
"""256 centroids of a product quantizer times 39, rounded up; also plenty for scalar quantizers and rotations."""

_UNTRAINED = re.compile(r"Flat|RFlat|HNSW\d*|IDMap2?|L2norm|SQfp16|SQbf16")
_IVF = re.compile(r"IVF(\d+)([kM]?)")
_MULTI_INDEX = re.compile(r"IMI2x(\d+)")
_PQ_BITS = re.compile(r"(?<!O)PQ\d+(?:\+\d+)?(?:x(\d+))?")
_FAST_SCAN_BLOCKS = (32, 64, 96, 128, 160)
"""Rows per block for which FAISS has code; for others its threads end the process."""
_OPQ_CENTROIDS = 256
"""The rotation is trained with a product quantizer of 8 bits, whatever the codes of the index are."""
_SCALES = {"": 1, "k": 1024, "M": 1024 * 1024}
_REFUSED = {
    "LSH": "its scores are Hamming distances of codes, which cannot be compared with the store's metric",
    "NSG": "it can be built only once over all rows and not over small shards",
}


def faiss_metric(metric: Metric) -> int:
    """FAISS's number for our metric."""
    return int(faiss.METRIC_INNER_PRODUCT if metric is Metric.IP else faiss.METRIC_L2)


def check_factory(factory: str, dimension: int, metric: Metric) -> None:
    """Refuse a factory string that FAISS cannot build for this dimension and metric, or that a store cannot use.

    Raises:
        SettingsError: unknown string, a dimension the quantizer cannot divide, a combination that FAISS rejects; with
            what to use instead.
    """
    if dimension < 1:
        raise SettingsError(f"embeddings have dimension {dimension}, wanted 1 or more: check the encoder")
    for name, why in _REFUSED.items():
        if name in factory:
            raise SettingsError(f"index {factory!r} cannot be used here: {name}: {why}. Use HNSW32 or IVF1024,PQ16")
    index = empty_index(factory, dimension, metric)
    inverted = inverted_file(index)
    if inverted is not None and inverted.nlist < 1:
        raise SettingsError(
            f"index {factory!r} has {inverted.nlist} inverted lists, wanted 1 or more, e.g. IVF1024,Flat"
        )


def empty_index(factory: str, dimension: int, metric: Metric) -> Any:
    """An empty FAISS index, not trained, that takes ids: IDMap2 around types that only count rows, else as it is.

    Raises:
        SettingsError: FAISS refuses to build it.
    """
    try:
        index = faiss.index_factory(dimension, factory, faiss_metric(metric))
    except RuntimeError as error:
        raise SettingsError(
            f"FAISS cannot build index {factory!r} for dimension {dimension} and metric {metric.value!r}: "
            f"{_faiss_reason(error)}. {_advice(factory, dimension)}"
        ) from error
    return index if _keeps_ids(index) else faiss.IndexIDMap2(index)


def needs_training(factory: str) -> bool:
    """Whether an index of this type must see a sample before rows can be added (IVF, PQ, SQ8, OPQ, ...)."""
    return not all(_UNTRAINED.fullmatch(part) for part in factory.split(","))


def minimum_training_rows(factory: str) -> int:
    """The sample size below which FAISS refuses to train: one row per centroid; 0 where there is no training."""
    if not needs_training(factory):
        return 0
    return max([1, *_centroids(factory), *([_OPQ_CENTROIDS] if "OPQ" in factory else [])])


def training_rows_wanted(factory: str) -> int:
    """How many sampled rows to train on: 64 per centroid, 10,000 at least; 0 where there is no training.

    A gallery with fewer rows is used whole, down to `minimum_training_rows`.
    """
    if not needs_training(factory):
        return 0
    return max([MIN_SAMPLE_ROWS, *(ROWS_PER_CENTROID * centroids for centroids in _centroids(factory))])


def inverted_file(index: Any) -> Any | None:
    """The IndexIVF inside (through ID maps, pre-transforms and refinement), or None; valid as long as `index` lives."""
    inner = inside_wrappers(index)
    return inner if isinstance(inner, faiss.IndexIVF) else None


def inside_wrappers(index: Any) -> Any:
    """The innermost index, without ID maps, pre-transforms and refinement; valid as long as `index` lives."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform | faiss.IndexRefine):
        index = faiss.downcast_index(index.base_index if isinstance(index, faiss.IndexRefine) else index.index)
    return index


def contradictions(index: Any) -> Iterator[str]:
    """What the parts of an index (wrapper and wrapped, lists and quantizer) disagree on: FAISS trusts its files.

    A search in an index that contradicts itself may return nonsense, run for ever, or read beyond its memory.
    """
    name = type(index).__name__
    if isinstance(index, faiss.IndexIDMap) and index.id_map.size() != index.ntotal:
        yield f"{name} has {index.ntotal} rows and {index.id_map.size()} ids"
    if isinstance(index, faiss.IndexIVF):
        yield from _inverted_contradictions(index, name)
    if isinstance(index, faiss.IndexFastScan | faiss.IndexIVFFastScan):
        layout = (index.M2, index.ksub, index.nbits)
        if index.bbs not in _FAST_SCAN_BLOCKS or layout != (index.M + index.M % 2, 16, 4):
            yield f"{name} has blocks of {index.bbs} rows and codes of (M2, ksub, nbits) {layout} for M {index.M}"
    for part in _wrapped(index):
        dimension = _after_transforms(index) if isinstance(index, faiss.IndexPreTransform) else index.d
        seen, wanted = (dimension, index.ntotal, index.metric_type), (part.d, part.ntotal, part.metric_type)
        if seen != wanted:
            yield f"{name} has (dimension, rows, metric) {seen}, the {type(part).__name__} in it {wanted}"
        yield from contradictions(part)


def _inverted_contradictions(index: Any, name: str) -> Iterator[str]:
    lists, quantizer = index.invlists, faiss.downcast_index(index.quantizer)
    if lists is None or quantizer is None:
        yield f"{name} has no inverted lists or no quantizer"
        return
    seen = (index.nlist, index.d, sum(lists.list_size(number) for number in range(lists.nlist)))
    wanted = (lists.nlist, quantizer.d, index.ntotal)
    if seen != wanted or quantizer.ntotal != index.nlist:
        yield f"{name} has (lists, dimension, rows) {seen}, its lists and quantizer {wanted}"
    yield from contradictions(quantizer)


def _after_transforms(index: Any) -> int:
    """The dimension that the transforms in front of an index lead to; 0 where one does not fit the one before."""
    dimension = index.d
    for number in range(index.chain.size()):
        transform = index.chain.at(number)
        dimension = transform.d_out if transform.d_in == dimension else 0
    return int(dimension)


def _wrapped(index: Any) -> list[Any]:
    """The indexes that hold the same rows as `index` for it."""
    if isinstance(index, faiss.IndexRefine):
        return [faiss.downcast_index(index.base_index), faiss.downcast_index(index.refine_index)]
    if isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        return [faiss.downcast_index(index.index)]
    return [faiss.downcast_index(index.storage)] if isinstance(index, faiss.IndexHNSW) else []


def _keeps_ids(index: Any) -> bool:
    if isinstance(index, faiss.IndexPreTransform):
        return _keeps_ids(faiss.downcast_index(index.index))
    return isinstance(index, faiss.IndexIVF | faiss.IndexIDMap)


def _centroids(factory: str) -> list[int]:
    counts = [int(number) * _SCALES[scale] for number, scale in _IVF.findall(factory)]
    counts += [2 ** int(bits) for bits in _MULTI_INDEX.findall(factory)]
    counts += [2 ** int(bits or 8) for bits in _PQ_BITS.findall(factory)]
    return counts


def _faiss_reason(error: RuntimeError) -> str:
    """FAISS's own words without function and file."""
    return str(error).rsplit("Error: ", maxsplit=1)[-1].strip()


def _advice(factory: str, dimension: int) -> str:
    for parts in re.findall(r"PQ(\d+)", factory):
        if int(parts) and dimension % int(parts):
            divisors = [m for m in (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1) if dimension % m == 0]
            return f"PQ{parts} does not divide the dimension {dimension}: PQ{divisors[0]} does"
    if "+" in factory or "Residual" in factory:
        return "Refining quantizers work with metric l2 only: use a plain PQ, e.g. IVF1024,PQ16"
    return "Use for example Flat, HNSW32, 'IVF1024,Flat' or 'IVF1024,PQ16'"
