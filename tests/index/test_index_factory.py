"""Factory strings are judged by what FAISS itself does with them."""

from __future__ import annotations

import faiss
import pytest

from fct_ray.errors import SettingsError
from fct_ray.index.factory import (
    check_factory,
    empty_index,
    inverted_file,
    minimum_training_rows,
    needs_training,
    training_rows_wanted,
)
from fct_ray.kinds import Metric

BUILDABLE = [
    "Flat",
    "HNSW32",
    "HNSW32,Flat",
    "SQ8",
    "SQfp16",
    "PQ8",
    "IVF64,Flat",
    "IVF64,PQ8",
    "IVF64,SQ8",
    "IVF64_HNSW32,PQ8",
    "OPQ8,IVF64,PQ8",
    "PCA16,Flat",
    "RR32,Flat",
    "IVF64,PQ8,RFlat",
    "Flat,RFlat",
    "HNSW32,SQ8",
    "IDMap,Flat",
    "IDMap2,HNSW32",
    "L2norm,Flat",
    "IVF64,PQ8x4fs",
]


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("factory", BUILDABLE)
def test_the_common_types_are_accepted_and_take_ids(factory: str, metric: Metric) -> None:
    check_factory(factory, 32, metric)
    index = empty_index(factory, 32, metric)
    assert index.ntotal == 0
    assert isinstance(index, faiss.IndexIDMap) or inverted_file(index) is not None


@pytest.mark.parametrize("factory", BUILDABLE)
def test_whether_training_is_needed_agrees_with_faiss(factory: str) -> None:
    assert needs_training(factory) == (not faiss.index_factory(32, factory).is_trained)


@pytest.mark.parametrize(
    ("factory", "metric", "message"),
    [
        ("Blah", Metric.L2, r"cannot build index 'Blah'.*could not parse.*Use for example Flat"),
        ("", Metric.L2, "cannot build"),
        ("IVF64,PQ7", Metric.L2, "PQ7 does not divide the dimension 32: PQ32 does"),
        ("IVF256,PQ16+16", Metric.IP, "metric l2 only"),
        ("Residual4x8", Metric.IP, "metric l2 only"),
        ("LSH", Metric.L2, "Hamming"),
        ("NSG32", Metric.L2, "only once"),
        ("IVF0,Flat", Metric.L2, "0 inverted lists"),
    ],
)
def test_what_faiss_or_a_store_cannot_use_is_refused_with_advice(factory: str, metric: Metric, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_factory(factory, 32, metric)


def test_a_dimension_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="dimension 0"):
        check_factory("Flat", 0, Metric.IP)


def test_training_sets_are_sized_by_centroids() -> None:
    assert training_rows_wanted("Flat") == training_rows_wanted("HNSW32") == minimum_training_rows("Flat") == 0
    assert training_rows_wanted("IVF64,Flat") == 10_000
    assert training_rows_wanted("IVF1024,PQ16") == 65_536
    assert training_rows_wanted("IVF64k,Flat") == 64 * 65_536
    assert training_rows_wanted("PQ8") == 64 * 256
    assert training_rows_wanted("SQ8") == 10_000
    assert minimum_training_rows("IVF1024,PQ16") == 1024
    assert minimum_training_rows("IVF64,PQ8") == 256
    assert minimum_training_rows("IVF64,PQ8x4fs") == 64
    assert minimum_training_rows("OPQ8,SQ8") == 256  # FAISS refuses to train the rotation on 255
