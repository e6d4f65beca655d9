"""Two embedding spaces in one gallery: suspected where rows by another model are among them, and only there.

The whole measurement is `python jobs/bench.py suspicions`; here are a few galleries of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from fct_ray.bench.mixed_galleries import KINDS, Synthetic
from fct_ray.evaluation.two_spaces import find_two_spaces
from fct_ray.gallery_facts import SpacesFacts

FloatArray = npt.NDArray[np.float32]


def _judged(vectors_ND: FloatArray, places_N2: npt.NDArray[np.int64] | None = None) -> SpacesFacts:
    facts = find_two_spaces(vectors_ND, places_N2, seed=0)
    assert facts is not None
    return facts


@pytest.mark.parametrize("kind", ["no clusters", "topics of clusters"])
def test_a_tenth_by_another_model_is_suspected_and_one_model_is_not(kind: str) -> None:
    one, two = (_judged(KINDS[kind].make(0, share, 3_000)) for share in (0.0, 0.1))
    assert (one.suspected, two.suspected) == (False, True)
    assert two.share == pytest.approx(0.1, abs=0.02)


def test_where_the_other_model_wrote_is_told() -> None:
    kind = KINDS["clusters"]
    assert isinstance(kind, Synthetic)
    vectors_ND = kind.make(0, 0.1, 3_000)
    second_N = np.random.default_rng(0)  # which rows are whose does not matter: they are put in order by what is found
    mixed = _judged(vectors_ND, np.stack([np.zeros(3_000), second_N.permutation(3_000)], axis=1).astype(np.int64))
    assert mixed.placed < 0.1
    assert mixed.objects == 0


def test_a_rotation_of_a_space_whose_axes_are_alike_is_not_seen() -> None:
    clusters = KINDS["clusters"]
    assert isinstance(clusters, Synthetic)
    kind = replace(clusters, decay=0.0, mean=0.0)
    assert not _judged(kind.make(0, 0.1, 3_000)).suspected


def test_copies_one_direction_and_few_rows_are_no_sign() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3_000, 16)).astype(np.float32)
    copies = np.concatenate([rows, np.repeat(rows[:30], 20, axis=0)])
    assert not _judged(copies).suspected
    one_direction = find_two_spaces(np.outer(np.arange(1, 1_000), np.ones(8)).astype(np.float32), seed=0)
    assert one_direction is None or not one_direction.suspected
    assert find_two_spaces(rows[:200], seed=0) is None
