"""Splits: deterministic, proportional, nested. The SplitMix64 vectors are those of the generator's reference code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct_ray.errors import SettingsError
from fct_ray.plan.splits import gate_mask, pairs_per_shard, sample_mask, splitmix64, unit_hash

GOLDEN = 0x9E3779B97F4A7C15
U64 = 2**64


def _splitmix64_in_python(seed: int) -> int:
    z = (seed + GOLDEN) % U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % U64
    return z ^ (z >> 31)


def test_splitmix64_gives_the_published_sequence_of_seed_1234567() -> None:
    # Vigna's splitmix64.c seeded with 1234567: state advances by the golden gamma between outputs.
    states = np.array([(1234567 + step * GOLDEN) % U64 for step in range(5)], dtype=np.uint64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(states).tolist() == expected


@given(st.lists(st.integers(min_value=0, max_value=U64 - 1), max_size=20))
def test_splitmix64_agrees_with_plain_integers(numbers: list[int]) -> None:
    assert splitmix64(np.array(numbers, dtype=np.uint64)).tolist() == [_splitmix64_in_python(n) for n in numbers]


def test_the_hash_of_an_id_never_changes_between_releases() -> None:
    # Worked out with plain integers; if these move, every stored split moves with them.
    ids = np.array([0, 1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert unit_hash(ids, "gate:0").tolist() == [
        0.07285231549149762,
        0.39584113512919816,
        0.27814296603179134,
        0.804918524940252,
        0.054616196066523126,
    ]


def test_hashes_are_uniform_and_independent_between_salts() -> None:
    ids = np.arange(100_000)
    first, second = unit_hash(ids, "a"), unit_hash(ids, "b")
    assert first.min() >= 0
    assert first.max() < 1
    histogram, _ = np.histogram(first, bins=20, range=(0, 1))
    # Chi-square with 19 degrees of freedom is above 43.8 once in a thousand.
    assert ((histogram - 5000) ** 2 / 5000).sum() < 43.8
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01


def test_the_gate_split_depends_on_id_and_seed_only() -> None:
    ids = np.random.default_rng(0).permutation(20_000)
    mask = gate_mask(ids, 0.2, seed=3)
    assert mask.mean() == pytest.approx(0.2, abs=0.01)
    order = np.argsort(ids)
    assert (gate_mask(ids[order], 0.2, seed=3) == mask[order]).all()
    assert (gate_mask(ids, 0.2, seed=4) != mask).any()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_gate_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match="gate share"):
        gate_mask([1, 2, 3], share, seed=0)


def test_the_sample_and_the_gate_split_are_independent() -> None:
    ids = np.arange(50_000)
    sampled = sample_mask(ids, 10_000, seed=0)
    assert gate_mask(ids[sampled], 0.2, seed=0).mean() == pytest.approx(0.2, abs=0.015)


def test_a_sample_has_the_wanted_size_whatever_the_order_and_larger_samples_contain_smaller_ones() -> None:
    ids = np.arange(1_000) * 7 - 300
    small, large = ids[sample_mask(ids, 50, seed=1)], ids[::-1][sample_mask(ids[::-1], 200, seed=1)]
    assert (len(small), len(large)) == (50, 200)
    assert set(small.tolist()) < set(large.tolist())
    assert not sample_mask(ids, 0, seed=1).any()
    assert sample_mask(ids, 1_000, seed=1).all()


def test_a_sample_larger_than_the_gallery_is_refused() -> None:
    with pytest.raises(SettingsError, match="11 items wanted out of 10"):
        sample_mask(np.arange(10), 11, seed=0)


def test_ids_that_are_not_integers_are_refused() -> None:
    with pytest.raises(SettingsError, match="float64"):
        unit_hash(np.array([1.0, 2.0]), "x")


def test_pairs_are_shared_out_by_largest_remainder() -> None:
    # Quotas 3.33, 3.33, 3.33: the first shard gets the tenth pair. Quotas 4.7, 3.1, 1.2 (sum 9): 5, 3, 1.
    assert pairs_per_shard([100, 100, 100], 10) == [4, 3, 3]
    assert pairs_per_shard([470, 310, 120], 9) == [5, 3, 1]
    assert pairs_per_shard([5, 0, 5], 10) == [5, 0, 5]
    assert pairs_per_shard([], 0) == []


def test_more_pairs_than_rows_are_refused() -> None:
    with pytest.raises(SettingsError, match="at most 10"):
        pairs_per_shard([4, 6], 11)


@given(st.data())
def test_pairs_sum_exactly_and_never_exceed_a_shard(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, 10**12), max_size=30))
    total = data.draw(st.integers(0, sum(rows)))
    counts = pairs_per_shard(rows, total)
    assert sum(counts) == total
    assert all(0 <= count <= shard for count, shard in zip(counts, rows, strict=True))
    if sum(rows):
        assert all(abs(c * sum(rows) - r * total) < sum(rows) for c, r in zip(counts, rows, strict=True))
