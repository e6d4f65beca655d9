"""Training one quantizer for a version and building one index per shard.

Owns: training, adding rows under the store's ids, serialising. Knows no files and no Parquet: arrays in, bytes out.
The bytes are plain FAISS files: the same sample, rows and seed give the same bytes on one wheel and CPU type. Seen: the
number of threads does not matter, except for rotations (OPQ, PCA, RR); how rows are split over calls of `add` does not
matter, except for HNSW. So add a shard in one call, with the threads of the run's settings.

Shapes: N rows, D dimension. Ids are int64.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from fct_ray.errors import DataError, FormatError, SettingsError
from fct_ray.index.factory import (
    check_factory,
    contradictions,
    empty_index,
    faiss_metric,
    inside_wrappers,
    minimum_training_rows,
    needs_training,
    training_rows_wanted,
)
from fct_ray.kinds import Metric

logger = logging.getLogger(__name__)

_PRODUCT_QUANTIZED: Any = (faiss.IndexPQ, faiss.IndexIVFPQ)
_PRECOMPUTED_BYTES = 1 << 31
"""The largest table that FAISS computes for IVF-PQ while it reads one; the limit on reading counts it, too."""
_reading = threading.Lock()
NO_ID = -1
"""FAISS's mark for "no neighbour"; no item of a store may have it."""


def set_num_threads(num_threads: int) -> None:
    """Let FAISS use this many threads in this process.

    Raises:
        SettingsError: less than one.
    """
    if num_threads < 1:
        raise SettingsError(f"num_threads is {num_threads}, wanted 1 or more")
    faiss.omp_set_num_threads(num_threads)


def train_index(factory: str, dimension: int, metric: Metric, sample_ND: npt.NDArray[np.float32], seed: int) -> bytes:
    """The trained and empty index that all shards of a version start from, as the bytes of a FAISS file.

    The sample is shuffled by `seed` first, so every training step inside FAISS depends on it. Take
    `training_rows_wanted(factory)` rows, after h: the old version's quantizer does not fit the new space.

    Raises:
        SettingsError: the factory cannot be built or needs no training, or the sample is too small.
        DataError: the sample has the wrong shape or is not finite.
    """
    check_factory(factory, dimension, metric)
    if not needs_training(factory):
        raise SettingsError(f"index {factory!r} needs no training: build its shards without a template")
    sample_ND = _float_rows(sample_ND, dimension, "training sample")
    least, wanted = minimum_training_rows(factory), training_rows_wanted(factory)
    if len(sample_ND) < least:
        raise SettingsError(
            f"index {factory!r} needs at least {least:,} rows to train, {wanted:,} to do it well, and the sample has "
            f"{len(sample_ND):,}: use fewer lists, or Flat or HNSW32 for a gallery this small"
        )
    if len(sample_ND) < wanted:
        logger.warning(
            "index %s is trained on %d rows; %d would be better (the whole gallery may be smaller)",
            factory,
            len(sample_ND),
            wanted,
        )
    index = empty_index(factory, dimension, metric)
    _skip_polysemous_training(index)
    order_N = np.random.default_rng(seed).permutation(len(sample_ND))
    index.train(np.ascontiguousarray(sample_ND[order_N]))
    return bytes(faiss.serialize_index(index))


def _skip_polysemous_training(index: Any) -> None:
    """Leave the order of PQ centroids as k-means made it: 0.3 s instead of 24 s of training for PQ8 (faiss 1.15).

    The order matters only to searches that filter by Hamming distance of codes (`polysemous_ht`), which are off by
    default in FAISS; distances are the same.
    """
    inner = inside_wrappers(index)
    codes = faiss.downcast_index(inner.storage) if isinstance(inner, faiss.IndexHNSW) else inner
    if isinstance(codes, _PRODUCT_QUANTIZED):
        codes.do_polysemous_training = False


def parse_index(data: bytes, name: str) -> Any:
    """The FAISS index in these bytes, as its own FAISS class.

    Raises:
        FormatError: FAISS cannot read them, or parts of the index contradict each other.
    """
    try:
        with _no_vector_above(len(data)):
            index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise FormatError(
            f"{name} ({len(data):,} bytes) is not a FAISS index: {str(error)[-200:]}. Rebuild it from its shard"
        ) from error
    return checked_index(index, name)


def checked_index(index: Any, name: str) -> Any:
    """`index`, if its parts agree; FormatError otherwise."""
    problem = next(contradictions(index), None)
    if problem is not None:
        raise FormatError(f"{name} is damaged: {problem}. Rebuild it from its shard")
    return index


@contextmanager
def _no_vector_above(num_bytes: int) -> Iterator[None]:
    """No part of an index is larger than its file or 2 GiB: a damaged length must not reserve the machine's memory.

    The limit is FAISS's own and global, hence the lock; older ones have none.
    """
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    with _reading:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(num_bytes, _PRECOMPUTED_BYTES))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


class ShardIndexBuilder:
    """Builds the index of one shard: `add` any number of times, `finish` once.

    `template` is what `train_index` returned, or None for types that need no training.

    Raises:
        SettingsError: a template is missing, or given where none belongs.
        FormatError: the template is not the trained and empty index of this dimension and metric.
    """

    def __init__(self, template: bytes | None, factory: str, dimension: int, metric: Metric) -> None:
        check_factory(factory, dimension, metric)
        if needs_training(factory) != (template is not None):
            raise SettingsError(
                f"index {factory!r} {'needs' if template is None else 'takes no'} trained template, "
                f"{'none' if template is None else 'one'} was given: "
                f"{'train_index first' if template is None else 'pass None'}"
            )
        self.dimension = dimension
        self._index: Any = (
            empty_index(factory, dimension, metric)
            if template is None
            else _checked_template(template, factory, dimension, metric)
        )

    def add(self, ids_N: npt.NDArray[np.int64], embeddings_ND: npt.NDArray[np.float32]) -> None:
        """Append rows under the store's ids.

        Raises:
            DataError: wrong shape, not finite, or an id of -1.
        """
        if self._index is None:
            raise SettingsError("this shard's index is finished: make a new builder for the next shard")
        embeddings_ND = _float_rows(embeddings_ND, self.dimension, "shard")
        ids_N = np.ascontiguousarray(ids_N, dtype=np.int64)
        if ids_N.shape != (len(embeddings_ND),):
            raise DataError(f"ids have shape {ids_N.shape}, wanted ({len(embeddings_ND)},): one id per row")
        if (ids_N == NO_ID).any():
            raise DataError(f"row {int(np.argmax(ids_N == NO_ID))} has id -1, FAISS's mark for no neighbour: change it")
        if len(ids_N):
            self._index.add_with_ids(embeddings_ND, ids_N)

    def finish(self) -> bytes:
        """The bytes of the shard's FAISS file; the builder is used up."""
        if self._index is None:
            raise SettingsError("this shard's index is finished already: make a new builder for the next shard")
        data = bytes(faiss.serialize_index(self._index))
        self._index = None
        return data


def _checked_template(template: bytes, factory: str, dimension: int, metric: Metric) -> Any:
    index = parse_index(template, f"trained template of {factory!r}")
    wanted = (dimension, faiss_metric(metric), 0, True)
    seen = (index.d, index.metric_type, index.ntotal, index.is_trained)
    if seen != wanted:
        raise FormatError(
            f"trained template of {factory!r} has (dimension, FAISS metric, rows, trained) {seen}, wanted {wanted}: "
            f"train one for this version"
        )
    return index


def _float_rows(rows_ND: npt.NDArray[np.float32], dimension: int, name: str) -> npt.NDArray[np.float32]:
    if rows_ND.ndim != 2 or rows_ND.shape[1] != dimension:
        raise DataError(f"{name} has shape {rows_ND.shape}, wanted (rows, {dimension}): check the encoder's dimension")
    finite_N = np.isfinite(rows_ND).all(axis=1)
    if not finite_N.all():
        raise DataError(f"{name}: row {int(np.argmin(finite_N))} is not finite, wanted numbers: check its embedding")
    return np.ascontiguousarray(rows_ND, dtype=np.float32)
