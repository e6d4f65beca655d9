"""True vectors in the place of what a map makes: whole vectors, blocks, and items that are other items now."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from fct_ray.models.blocks import block, join_blocks
from fct_ray.models.closed_forms import identity
from fct_ray.models.model_files import unpack_model, with_true_vectors
from fct_ray.models.model_json import parse_document
from fct_ray.models.transformation import AnyTransformation
from fct_ray.models.true_vectors import TrueVectors, are_in, can_hold, crc32_of, put_in
from tests.models.joined_blocks import (
    NEW,
    OLD,
    WEIGHTS,
    Array,
    as_float,
    joined,
    pack,
    query_map_of,
    run,
    seen_h,
    stored_vectors,
    unit,
    whitenings,
)

IDS = np.arange(100, 150, dtype=np.int64)
KNOWN = np.array([3, 40, 7])


def _true(old: Array) -> TrueVectors:
    """True vectors of three of the rows, and of an item that is not there."""
    new = as_float(np.random.default_rng(1).normal(size=(4, NEW)))
    return TrueVectors.of(np.append(IDS[KNOWN], 7), np.concatenate([old[KNOWN], old[:1]]), new)


def _with(module: AnyTransformation, true: TrueVectors, *, normalized: bool = True) -> tuple[Array, Array]:
    """What the module makes of the stored vectors, and the same with the true ones put in."""
    old, side = stored_vectors()
    before = run(module, old, side if module.architecture.side_dimension else None)
    after = before.copy()
    put_in(after, true.of_rows(IDS, old), query_map_of(module), normalized=normalized)
    return before, after


def test_the_whole_vector_is_the_true_one_at_unit_length() -> None:
    true = _true(stored_vectors()[0])
    before, after = _with(seen_h(), true)
    by_id = dict(zip(true.ids_T.tolist(), unit(true.new_TW), strict=True))
    np.testing.assert_allclose(after[KNOWN], [by_id[number] for number in IDS[KNOWN]], atol=1e-6)
    rest = np.setdiff1d(np.arange(50), KNOWN)
    np.testing.assert_array_equal(after[rest], before[rest])


def test_vectors_that_are_not_normalized_stay_as_the_model_gave_them() -> None:
    true = _true(stored_vectors()[0])
    _, after = _with(seen_h(normalized=False), true, normalized=False)
    np.testing.assert_array_equal(after[KNOWN[0]], true.new_TW[true.ids_T == IDS[KNOWN[0]]][0])


def test_in_joined_blocks_only_the_columns_of_h_become_true_at_their_weight() -> None:
    true = _true(stored_vectors()[0])
    before, after = _with(joined(), true)
    np.testing.assert_array_equal(after[:, :-NEW], before[:, :-NEW])
    expected = unit(true.new_TW[true.ids_T == IDS[KNOWN[1]]]) * WEIGHTS[2] ** 0.5
    np.testing.assert_allclose(after[KNOWN[1], -NEW:], expected[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-6)


def test_an_item_is_where_a_query_of_the_same_new_vector_looks() -> None:
    """The inner product of an item's block and of a query with the item's own new vector is the block's whole weight."""
    old, side = stored_vectors()
    true = _true(old)
    _, after = _with(joined(), true)
    row = KNOWN[2]
    new = true.new_TW[true.ids_T == IDS[row]]
    query = query_map_of(joined())({"old": old[[row]], "side": side[[row]], "new": new})
    assert float(query[0] @ after[row]) == pytest.approx(1.0, abs=1e-5)


def test_of_matryoshka_embeddings_the_first_coordinates_count() -> None:
    module = join_blocks([block("h", 1.0, identity(OLD, OLD, normalized=True), query_dimension=OLD + 2)])
    old, _ = stored_vectors()
    true = TrueVectors.of(IDS[:1], old[:1], as_float(np.arange(1, OLD + 3)[None]))
    _, after = _with(module, true)
    np.testing.assert_allclose(after[0], unit(as_float(np.arange(1, OLD + 1)[None]))[0], atol=1e-6)


def test_ways_without_the_new_model_have_no_place_for_them() -> None:
    old_map, side_map = whitenings()
    module = join_blocks([block("old", 0.5, old_map), block("side", 0.5, side_map)])
    assert not can_hold(query_map_of(module))
    assert can_hold(query_map_of(joined()))
    before, after = _with(module, _true(stored_vectors()[0]))
    np.testing.assert_array_equal(before, after)


def test_an_item_that_was_replaced_under_its_id_gets_no_vector_of_the_item_before() -> None:
    old, _ = stored_vectors()
    true = _true(old)
    replaced = old.copy()
    replaced[KNOWN[0], 2] += 1e-3
    assert sorted(true.of_rows(IDS, old).rows_K) == sorted(KNOWN)
    assert sorted(true.of_rows(IDS, replaced).rows_K) == sorted(KNOWN[1:])


def test_which_rows_are_true_is_seen_in_a_version_itself() -> None:
    old, _ = stored_vectors()
    true = _true(old)
    _, after = _with(joined(), true)
    known = true.of_rows(IDS, old)
    after[known.rows_K[0]] += 1e-3
    assert are_in(after, known, query_map_of(joined()), normalized=True).tolist() == [False, True, True]


def test_they_ascend_by_id_and_what_is_not_finite_is_left_out() -> None:
    old, _ = stored_vectors()
    new = as_float(np.eye(3, NEW))
    new[1, 1] = np.nan
    true = TrueVectors.of(np.array([9, 2, 5]), old[:3], new)
    assert true.ids_T.tolist() == [5, 9]
    np.testing.assert_array_equal(true.new_TW, new[[2, 0]])
    assert true.without(np.array([9, 70])).ids_T.tolist() == [5]


def test_the_check_of_an_old_vector_is_the_crc_32_of_its_little_endian_numbers() -> None:
    rows = np.array([[1.0, -2.5]], np.float32)
    assert crc32_of(rows).tolist() == [zlib.crc32(bytes.fromhex("0000803f000020c0"))]


def test_a_model_with_true_vectors_is_another_model_and_one_without_is_written_as_before() -> None:
    packed = pack(seen_h())
    assert b"true_vectors" not in packed.model_json
    beside = with_true_vectors(packed, b"a file")
    assert beside.document.fingerprint != packed.document.fingerprint
    assert beside.document.fingerprint != with_true_vectors(packed, b"another").document.fingerprint
    assert beside.directory_name == f"h-{beside.document.fingerprint[:12]}"
    assert parse_document(beside.model_json, "m") == beside.document
    assert unpack_model(beside.model_json, beside.weights, "m").document == beside.document
    assert with_true_vectors(beside, None).model_json == packed.model_json
