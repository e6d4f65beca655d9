"""The truth of a case: measures by hand and by brute force."""

import numpy as np
import pytest

from fct_ray.bench.cases import truth
from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.reference import Block, fit_whitening, fused, unit
from fct_ray.bench.cases.truth import backfill_truth, harm, keep_truth, search
from fct_ray.errors import SettingsError

RNG = np.random.default_rng(0)


def vectors(rows: int, numbers: int = 6) -> truth.FloatArray:
    return unit(RNG.normal(size=(rows, numbers)).astype(np.float32))


def test_the_first_relevant_item_gives_the_rank() -> None:
    gallery = np.asarray([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    query = np.asarray([[1, 0], [1, 0], [1, 0]], np.float32)
    found = search(query, gallery, [(0,), (1, 2), (2,)])
    assert found.ranks_Q.tolist() == [1, 2, 3]
    assert found.r1 == pytest.approx(1 / 3)
    assert found.r10 == 1.0
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_of_equal_scores_the_earlier_row_comes_first() -> None:
    gallery = np.asarray([[1, 0], [1, 0], [1, 0]], np.float32)
    assert search(gallery, gallery, [(0,), (1,), (2,)]).ranks_Q.tolist() == [1, 2, 3]


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, gallery, relevant = vectors(23), vectors(50), [(row,) for row in range(23)]
    whole = search(queries, gallery, relevant)
    monkeypatch.setattr(truth, "BLOCK_SCORES", 200)
    blocks = search(queries, gallery, relevant)
    order = np.argsort(-(queries @ gallery.T), axis=1)
    assert whole.ranks_Q.tolist() == blocks.ranks_Q.tolist()
    assert whole.ranks_Q.tolist() == [order[row].tolist().index(row) + 1 for row in range(23)]


def test_precision_and_neighbours_agree_with_sorting() -> None:
    queries, gallery, new_queries, new_gallery = vectors(9), vectors(60), vectors(9, 4), vectors(60, 4)
    labels_Q, labels_N = RNG.integers(0, 3, 9), RNG.integers(0, 3, 60)
    found, wanted = (
        np.argsort(-(of @ rows.T), axis=1)[:, :10] for of, rows in ((queries, gallery), (new_queries, new_gallery))
    )
    relevant = [(0,)] * 9
    results, new_results = search(queries, gallery, relevant), search(new_queries, new_gallery, relevant)
    assert results.precision(labels_Q, labels_N) == pytest.approx((labels_N[found] == labels_Q[:, None]).mean())
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    assert results.shared_with(new_results) == pytest.approx(np.mean(shared))


def test_a_worse_new_model_is_harm() -> None:
    gallery = vectors(40)
    noise = unit(gallery + 3 * vectors(40))
    case = CaseData(
        name="worse",
        task=CaseTask.KNOWN_ITEM,
        old_NO=gallery,
        new_NW=noise,
        pair_ids_P=np.arange(10),
        queries=Queries(old_QO=gallery[:20], new_QW=gallery[:20], relevant=tuple((row,) for row in range(20))),
        known={},
        sources={},
    )
    keep, backfill = keep_truth(case), backfill_truth(case)
    assert keep.r1 == 1.0
    assert keep.precision is None
    assert backfill.neighbours == 1.0
    assert harm(backfill, keep)["r1"] == pytest.approx(backfill.r1 - 1)
    assert backfill.r1 < 0.9


def test_queries_without_a_relevant_row_are_refused() -> None:
    with pytest.raises(SettingsError, match="1 with a relevant row"):
        search(vectors(2), vectors(5), [(1,), ()])


def test_queries_of_another_space_are_refused() -> None:
    with pytest.raises(SettingsError, match="one space"):
        search(vectors(1, 3), vectors(5, 4), [(1,)])


def test_whitened_vectors_have_equal_variance_before_they_are_scaled_to_length_1() -> None:
    gallery = (RNG.normal(size=(4000, 5)) * [1, 2, 3, 4, 5] + 7).astype(np.float32)
    whitening = fit_whitening(gallery, exponent=1.0)
    flat = (gallery - whitening.mean_D) @ whitening.matrix_DD
    np.testing.assert_allclose(np.cov(flat.T), np.eye(5), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(whitening(gallery), axis=1), 1, rtol=1e-5)


def test_fused_blocks_sum_weighted_cosines() -> None:
    blocks = [
        Block(query_QD=vectors(3), gallery_ND=vectors(7), weight=0.3),
        Block(query_QD=vectors(3, 4), gallery_ND=vectors(7, 4), weight=0.7),
    ]
    queries, gallery = fused(blocks)
    wanted = sum(block.weight * block.query_QD @ block.gallery_ND.T for block in blocks)
    np.testing.assert_allclose(queries @ gallery.T, wanted, atol=1e-6)
