"""Which true vectors a version keeps, and which of them are in the gallery while it is judged."""

from __future__ import annotations

import numpy as np

from fct_ray.workflows.upgrade.kept_vectors import vectors_to_keep
from fct_ray.workflows.upgrade.pairs import Pairs


def _pairs(ids: list[int], *, labels: bool) -> Pairs:
    number = np.array(ids, np.int64)
    return Pairs(
        ids_P=number,
        old_PD=np.repeat(number[:, None], 3, axis=1).astype(np.float32),
        side_PS=None,
        new_PW=-np.repeat(number[:, None], 2, axis=1).astype(np.float32),
        labels_P=number % 2 if labels else None,
    )


def test_held_out_pairs_and_what_real_queries_look_for_are_kept_but_do_not_judge() -> None:
    pairs, refined = _pairs([2, 4, 6, 8], labels=True), _pairs([3, 5, 7], labels=True)
    held_out_P = np.array([True, False, False, False])
    kept = vectors_to_keep(pairs, refined, held_out_P=held_out_P, looked_for=np.array([5, 8, 99]))
    assert kept.published.ids_T.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert kept.judging.ids_T.tolist() == [3, 4, 6, 7]
    np.testing.assert_array_equal(kept.judging.new_TW[:, 0], [-3, -4, -6, -7])


def test_refined_items_join_pairs_in_the_order_of_ids_and_labels_count_where_all_have_them() -> None:
    both = _pairs([2, 9], labels=True).with_more(_pairs([1, 5], labels=True))
    assert both.ids_P.tolist() == [1, 2, 5, 9]
    assert both.labels_P is not None
    assert both.labels_P.tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(both.old_PD[:, 0], [1, 2, 5, 9])
    assert _pairs([2, 9], labels=True).with_more(_pairs([1], labels=False)).labels_P is None
    assert _pairs([2, 9], labels=True).with_more(None).ids_P.tolist() == [2, 9]
