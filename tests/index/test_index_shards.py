"""Shard indexes against brute force: ids and scores, every type, both metrics, and the same bytes again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from fct_ray.errors import DataError, FormatError, SettingsError
from fct_ray.index.build import ShardIndexBuilder, set_num_threads, train_index
from fct_ray.index.factory import faiss_metric, needs_training
from fct_ray.index.search import ShardedIndex, default_nprobe, describe, exact_search, recall
from fct_ray.kinds import Metric

FACTORIES = ["Flat", "IVF64,Flat", "IVF64,PQ8", "HNSW32", "SQ8"]
EXACT_WHEN_EXHAUSTIVE = ["Flat", "IVF64,Flat"]
N, D, Q, K, SHARDS, NLIST = 2000, 16, 40, 10, 4, 64
both_metrics = pytest.mark.parametrize("metric", Metric)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_num_threads(1)


@lru_cache
def _gallery() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Clustered vectors, as embeddings are; ids large, unordered and partly negative."""
    rng = np.random.default_rng(0)
    centres_CD = rng.standard_normal((50, D))
    rows_ND = (centres_CD[rng.integers(0, 50, N)] + 0.4 * rng.standard_normal((N, D))).astype(np.float32)
    queries_QD = (centres_CD[rng.integers(0, 50, Q)] + 0.4 * rng.standard_normal((Q, D))).astype(np.float32)
    ids_N = rng.permutation(10 * N)[:N].astype(np.int64) + 2**40
    ids_N[:3] = [-7, 0, 2**63 - 1]
    return ids_N, rows_ND, queries_QD


@lru_cache
def _template(factory: str, metric: Metric) -> bytes | None:
    return train_index(factory, D, metric, _gallery()[1], seed=5) if needs_training(factory) else None


def _build(factory: str, metric: Metric, rows: slice) -> bytes:
    ids_N, rows_ND, _ = _gallery()
    builder = ShardIndexBuilder(_template(factory, metric), factory, D, metric)
    builder.add(ids_N[rows], rows_ND[rows])
    return builder.finish()


@lru_cache
def _shards(factory: str, metric: Metric) -> tuple[bytes, ...]:
    step = N // SHARDS
    return tuple(_build(factory, metric, slice(start, start + step)) for start in range(0, N, step))


def _brute_force(
    metric: Metric, k: int, queries_QD: npt.NDArray[np.float32] | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Every score in float64, best first."""
    ids_N, rows_ND, own_QD = _gallery()
    queries = (own_QD if queries_QD is None else queries_QD).astype(np.float64)
    rows = rows_ND.astype(np.float64)
    inner = queries @ rows.T
    scores = inner if metric is Metric.IP else ((queries[:, None] - rows[None]) ** 2).sum(-1)
    order = np.argsort(-scores if metric is Metric.IP else scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), ids_N[order]


@both_metrics
@pytest.mark.parametrize("factory", EXACT_WHEN_EXHAUSTIVE)
def test_an_exhaustive_search_over_shards_is_brute_force(factory: str, metric: Metric) -> None:
    scores, ids = ShardedIndex(_shards(factory, metric)).search(_gallery()[2], K, nprobe=NLIST)
    true_scores, true_ids = _brute_force(metric, K)
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_allclose(scores, true_scores, rtol=1e-4, atol=1e-4)


@both_metrics
@pytest.mark.parametrize(
    ("factory", "least"), [("IVF64,Flat", 0.9), ("HNSW32", 0.99), ("SQ8", 0.95), ("IVF64,PQ8", 0.6)]
)
def test_approximate_types_find_most_of_it_with_nearly_the_true_scores(
    factory: str, metric: Metric, least: float
) -> None:
    ids_N, rows_ND, queries_QD = _gallery()
    scores, ids = ShardedIndex(_shards(factory, metric)).search(queries_QD, K)
    _, true_ids = _brute_force(metric, K)
    assert recall(ids, true_ids) >= least
    row_of = {number: row for row, number in enumerate(ids_N.tolist())}
    found_QKD = rows_ND[[[row_of[number] for number in line] for line in ids.tolist()]]
    inner_QK = np.einsum("qd,qkd->qk", queries_QD, found_QKD)
    squared_QK = ((queries_QD[:, None] - found_QKD) ** 2).sum(-1)
    true_QK = inner_QK if metric is Metric.IP else squared_QK
    # A quantised score is the score of the decoded vector: off by its quantisation error. The others are exact.
    allowed = {"SQ8": 0.2, "IVF64,PQ8": 4.0}.get(factory, 1e-3)
    assert np.abs(scores - true_QK).max() < allowed


@both_metrics
@pytest.mark.parametrize("factory", FACTORIES)
def test_shards_searched_together_equal_one_index(factory: str, metric: Metric) -> None:
    queries_QD = _gallery()[2]
    sharded, whole = ShardedIndex(_shards(factory, metric)), ShardedIndex([_build(factory, metric, slice(0, N))])
    assert sharded.ntotal == whole.ntotal == N
    scores, ids = sharded.search(queries_QD, K)
    whole_scores, whole_ids = whole.search(queries_QD, K)
    np.testing.assert_allclose(scores, whole_scores, atol=1e-5)
    # Codes of equal score may come in either order; an id may only differ where its score is tied at the end.
    differing = ids != whole_ids
    assert differing.mean() <= (0.02 if "PQ" in factory or factory == "SQ8" else 0.0)


@both_metrics
@pytest.mark.parametrize("factory", FACTORIES)
def test_a_rebuilt_shard_has_the_same_bytes(factory: str, metric: Metric) -> None:
    assert _build(factory, metric, slice(0, N // SHARDS)) == _shards(factory, metric)[0]


@both_metrics
@pytest.mark.parametrize("factory", ["Flat", "IVF64,Flat", "IVF64,PQ8", "HNSW32"])
def test_the_number_of_threads_does_not_change_the_bytes(factory: str, metric: Metric) -> None:
    set_num_threads(2)
    assert _build(factory, metric, slice(0, N // SHARDS)) == _shards(factory, metric)[0]


@both_metrics
@pytest.mark.parametrize("factory", ["IVF64,Flat", "IVF64,PQ8", "SQ8"])
def test_training_again_gives_the_same_bytes_and_another_seed_others(factory: str, metric: Metric) -> None:
    sample = _gallery()[1]
    template = _template(factory, metric)
    assert template is not None
    assert train_index(factory, D, metric, sample, seed=5) == template
    if factory != "SQ8":  # its ranges are minima and maxima, whatever the order
        assert train_index(factory, D, metric, sample, seed=6) != template


@pytest.mark.parametrize("factory", ["Flat", "IVF64,Flat", "IVF64,PQ8", "SQ8"])
def test_how_rows_are_split_over_calls_does_not_change_the_bytes(factory: str) -> None:
    ids_N, rows_ND, _ = _gallery()
    builder = ShardIndexBuilder(_template(factory, Metric.IP), factory, D, Metric.IP)
    for rows in (slice(0, 1), slice(1, 1), slice(1, 300), slice(300, N // SHARDS)):
        builder.add(ids_N[rows], rows_ND[rows])
    assert builder.finish() == _shards(factory, Metric.IP)[0]


@both_metrics
@pytest.mark.parametrize("factory", FACTORIES)
def test_an_index_file_tells_its_ids_and_the_template_it_was_made_from(factory: str, metric: Metric) -> None:
    contents = describe(_shards(factory, metric)[1])
    assert contents.ids_N.tolist() == sorted(_gallery()[0][N // SHARDS : 2 * N // SHARDS].tolist())
    assert (contents.dimension, contents.ntotal, contents.metric) == (D, N // SHARDS, metric)
    template = _template(factory, metric)
    if template is not None:
        assert contents.trained_sha256 == hashlib.sha256(template).hexdigest()


def test_fast_scan_files_cannot_tell_their_template() -> None:
    assert describe(_shards("IVF64,PQ8x4fs", Metric.L2)[0]).trained_sha256 is None


def test_foreign_faiss_reads_and_merges_the_files(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.faiss") for number in range(SHARDS)]
    for path, data in zip(paths, _shards("IVF64,Flat", Metric.L2), strict=True):
        Path(path).write_bytes(data)
    merged: Any = faiss.read_index(paths[0])
    for path in paths[1:]:
        merged.merge_from(faiss.read_index(path), 0)
    merged.nprobe = NLIST
    scores, ids = merged.search(_gallery()[2], K)
    true_scores, true_ids = _brute_force(Metric.L2, K)
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_allclose(scores, true_scores, rtol=1e-4, atol=1e-4)
    for memory_map in (False, True):
        own_scores, own_ids = ShardedIndex(paths, memory_map=memory_map).search(_gallery()[2], K, nprobe=NLIST)
        np.testing.assert_array_equal(own_ids, ids)
        np.testing.assert_allclose(own_scores, scores, rtol=1e-4, atol=1e-4)


@both_metrics
def test_exact_search_over_chunks_is_brute_force(metric: Metric) -> None:
    ids_N, rows_ND, queries_QD = _gallery()
    chunks = [(ids_N[start : start + 7], rows_ND[start : start + 7]) for start in range(0, N, 7)]
    scores, ids = exact_search([*chunks, (ids_N[:0], rows_ND[:0])], queries_QD, K, metric)
    true_scores, true_ids = _brute_force(metric, K)
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_allclose(scores, true_scores, rtol=1e-4, atol=1e-4)


@both_metrics
def test_more_neighbours_than_rows_are_padded_with_the_worst_score(metric: Metric) -> None:
    ids_N, rows_ND, queries_QD = _gallery()
    builder = ShardIndexBuilder(None, "Flat", D, metric)
    builder.add(ids_N[:3], rows_ND[:3])
    for scores, ids in (
        ShardedIndex([builder.finish()]).search(queries_QD, 5),
        exact_search([(ids_N[:3], rows_ND[:3])], queries_QD, 5, metric),
    ):
        assert (np.sort(ids[:, :3], axis=1) == np.sort(ids_N[:3])).all()
        assert (ids[:, 3:] == -1).all()
        assert (scores[:, 3:] == (-np.inf if metric is Metric.IP else np.inf)).all()


def test_equal_scores_come_by_smaller_id_whatever_the_shard() -> None:
    row = np.ones((1, D), dtype=np.float32)
    files = []
    for number in (30, 10, 20):
        builder = ShardIndexBuilder(None, "Flat", D, Metric.IP)
        builder.add(np.array([number]), row)
        files.append(builder.finish())
    assert ShardedIndex(files).search(row, 3)[1].tolist() == [[10, 20, 30]]


def test_a_row_finds_itself_at_distance_zero() -> None:
    ids_N, rows_ND, _ = _gallery()
    scores, ids = ShardedIndex(_shards("Flat", Metric.L2)).search(rows_ND[:30], 1)
    assert ids[:, 0].tolist() == ids_N[:30].tolist()
    np.testing.assert_allclose(scores[:, 0], 0.0, atol=1e-4)


@pytest.mark.parametrize("factory", [*FACTORIES, "HNSW32,RFlat", "PCA8,IVF64,Flat", "IVF64,PQ8,RFlat", "IVF64,PQ8x4fs"])
def test_searches_at_the_same_time_do_not_change_each_others_effort(factory: str) -> None:
    queries_QD = _gallery()[2]
    efforts = [(k, nprobe) for k in (1, 10, 60) for nprobe in ((1, NLIST, None) if "IVF" in factory else (None,))]
    alone = [ShardedIndex(_shards(factory, Metric.IP)).search(queries_QD, *effort) for effort in efforts]
    index = ShardedIndex(_shards(factory, Metric.IP))
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda effort: index.search(queries_QD, *effort), efforts * 30))
    for number, (scores, ids) in enumerate(found):
        wanted_scores, wanted_ids = alone[number % len(efforts)]
        np.testing.assert_array_equal(ids, wanted_ids, err_msg=f"k, nprobe = {efforts[number % len(efforts)]}")
        np.testing.assert_array_equal(scores, wanted_scores)


def test_recall_by_hand() -> None:
    assert recall([[1, 2, 3], [4, 5, 6]], [[3, 9], [5, 4]]) == 0.75
    assert recall([[1, -1]], [[1, -1]]) == 1.0
    with pytest.raises(SettingsError, match="no true neighbours"):
        recall([[1]], [[-1]])
    with pytest.raises(SettingsError, match="same queries"):
        recall([[1]], [[1], [2]])


def test_default_search_effort_grows_with_the_lists() -> None:
    assert [default_nprobe(nlist) for nlist in (1, 8, 64, 1024, 65_536)] == [1, 8, 8, 32, 2048]


def test_unusable_rows_are_refused_by_row() -> None:
    ids_N, rows_ND, _ = _gallery()
    builder = ShardIndexBuilder(None, "Flat", D, Metric.IP)
    broken = rows_ND[:5].copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="row 3 is not finite"):
        builder.add(ids_N[:5], broken)
    with pytest.raises(DataError, match=r"shape \(5, 15\), wanted \(rows, 16\)"):
        builder.add(ids_N[:5], rows_ND[:5, :15])
    with pytest.raises(DataError, match=r"ids have shape \(4,\), wanted \(5,\)"):
        builder.add(ids_N[:4], rows_ND[:5])
    with pytest.raises(DataError, match="row 1 has id -1"):
        builder.add(np.array([1, -1]), rows_ND[:2])


def test_a_missing_foreign_or_untrained_template_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs trained template"):
        ShardIndexBuilder(None, "IVF64,Flat", D, Metric.IP)
    template = _template("IVF64,Flat", Metric.IP)
    with pytest.raises(SettingsError, match="takes no trained template"):
        ShardIndexBuilder(template, "Flat", D, Metric.IP)
    with pytest.raises(FormatError, match="train one for this version"):
        ShardIndexBuilder(template, "IVF64,Flat", D, Metric.L2)
    with pytest.raises(FormatError, match="train one for this version"):
        ShardIndexBuilder(_shards("IVF64,Flat", Metric.IP)[0], "IVF64,Flat", D, Metric.IP)
    with pytest.raises(FormatError, match="not a FAISS index"):
        ShardIndexBuilder(b"no index at all", "IVF64,Flat", D, Metric.IP)


def test_a_sample_too_small_to_train_is_refused_with_both_numbers() -> None:
    with pytest.raises(SettingsError, match=r"at least 256 rows to train, 16,384 to do it well.*has 255"):
        train_index("IVF64,PQ8", D, Metric.IP, _gallery()[1][:255], seed=0)
    with pytest.raises(SettingsError, match="needs no training"):
        train_index("HNSW32", D, Metric.IP, _gallery()[1], seed=0)


def test_a_finished_builder_is_used_up() -> None:
    builder = ShardIndexBuilder(None, "Flat", D, Metric.IP)
    builder.finish()
    with pytest.raises(SettingsError, match="finished"):
        builder.finish()
    with pytest.raises(SettingsError, match="finished"):
        builder.add(_gallery()[0][:1], _gallery()[1][:1])


def test_unusable_searches_are_refused() -> None:
    index = ShardedIndex(_shards("Flat", Metric.IP))
    queries_QD = _gallery()[2]
    with pytest.raises(SettingsError, match="k is 0"):
        index.search(queries_QD, 0)
    with pytest.raises(SettingsError, match=r"shape \(40, 15\), wanted \(queries, 16\)"):
        index.search(queries_QD[:, :15], K)
    with pytest.raises(SettingsError, match="nprobe is 0"):
        index.search(queries_QD, K, nprobe=0)
    with pytest.raises(SettingsError, match="no index files"):
        ShardedIndex([])
    with pytest.raises(FormatError, match="different versions"):
        ShardedIndex([_shards("Flat", Metric.IP)[0], _shards("Flat", Metric.L2)[0]])
    with pytest.raises(FormatError, match="cannot be read"):
        ShardedIndex(["/nowhere/0.faiss"])


@both_metrics
def test_skipping_the_polysemous_order_leaves_distances_and_neighbours_alone(metric: Metric) -> None:
    ids_N, rows_ND, queries_QD = _gallery()
    order = np.random.default_rng(5).permutation(N)
    plain: Any = faiss.index_factory(D, "PQ4x6", faiss_metric(metric))
    plain.do_polysemous_training = True
    plain.train(np.ascontiguousarray(rows_ND[order]))
    plain.add(rows_ND)
    expected, expected_rows = plain.search(queries_QD, K)
    builder = ShardIndexBuilder(train_index("PQ4x6", D, metric, rows_ND, seed=5), "PQ4x6", D, metric)
    builder.add(ids_N, rows_ND)
    scores, ids = ShardedIndex([builder.finish()]).search(queries_QD, K)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert recall(ids, ids_N[expected_rows]) > 0.98  # codes of equal score at the end may differ


def test_no_queries_find_nothing() -> None:
    scores, ids = ShardedIndex(_shards("IVF64,Flat", Metric.IP)).search(_gallery()[2][:0], K)
    assert scores.shape == ids.shape == (0, K)
