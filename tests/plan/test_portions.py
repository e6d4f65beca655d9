"""How objects become shards: large ones are cut at row groups, many small ones are put together."""

from __future__ import annotations

from fct_ray.plan.portions import MOST_SMALL, MOST_TOGETHER, portions
from fct_ray.values import RowGroups


def _groups(*loaded: int) -> list[RowGroups]:
    """Row groups of 10 rows and 100 bytes each, one after the other."""
    return [
        RowGroups(rows=(10 * at, 10 * at + 10), byte_range=(4 + 100 * at, 104 + 100 * at), loaded_bytes=size)
        for at, size in enumerate(loaded)
    ]


def test_an_object_that_fits_into_a_shard_is_one_in_place() -> None:
    (portion,) = portions({"a": 500}, {"a": _groups(400, 500)}, 1000)
    assert portion.in_place
    assert (portion.pieces[0].uri, portion.pieces[0].rows) == ("a", None)


def test_row_groups_are_put_together_up_to_the_size_of_a_shard() -> None:
    found = portions({"a": 500}, {"a": _groups(400, 500, 200, 900, 1500)}, 1000)
    assert [portion.pieces[0].rows for portion in found] == [(0, 20), (20, 30), (30, 40), (40, 50)]
    assert [portion.pieces[0].byte_range for portion in found] == [(4, 204), (204, 304), (304, 404), (404, 504)]
    assert all(portion.in_place for portion in found)  # a row group of up to twice the size stays one shard


def test_a_row_group_that_is_far_too_large_is_cut_into_slices() -> None:
    small, large = portions({"a": 500}, {"a": _groups(300, 2500)}, 1000)
    assert small.in_place
    assert (large.in_place, large.rows_per_shard, large.pieces[0].rows) == (False, 4, (10, 20))


def test_few_small_objects_stay_in_place_and_many_are_put_together_in_order() -> None:
    few = {f"{number:05d}": 1 for number in range(MOST_SMALL)}
    assert all(portion.in_place for portion in portions(few, {}, 10_000_000))
    many = {f"{number:05d}": 1 for number in range(20_000)}
    found = portions(many, {}, 10_000_000)
    assert [len(portion.pieces) for portion in found] == [MOST_TOGETHER] * 4 + [20_000 - 4 * MOST_TOGETHER]
    assert [piece.uri for portion in found for piece in portion.pieces] == list(many)


def test_what_is_put_together_stays_small_and_does_not_jump_over_larger_objects() -> None:
    sizes = {f"{number:03d}": 100 for number in range(300)} | {"149a": 5000}
    sizes = dict(sorted(sizes.items()))
    found = portions(sizes, {}, 10_000)
    assert [piece.uri for portion in found for piece in portion.pieces] == list(sizes)
    assert max(len(portion.pieces) for portion in found) == 25  # a quarter of a shard: what compression hides has room
    assert [portion.pieces[0].uri for portion in found if len(portion.pieces) == 1] == ["149a"]
