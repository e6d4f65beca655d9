"""Who is served worse than before: groups of queries, and queries that were right.

Owns: that arithmetic over per-query measures. Shapes: Q queries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def worst_group(
    candidate_Q: npt.ArrayLike, bar_Q: npt.ArrayLike, groups_Q: npt.ArrayLike, *, min_queries: int = 10
) -> dict[str, float] | None:
    """The group that loses most (or gains least) against doing nothing: {"group", "candidate", "bar"}.

    Groups with fewer than `min_queries` queries are too noisy to name; None where no group has enough. Groups are
    numbers, e.g. labels. Ties go to the smaller group number.
    """
    candidate, bar, groups = np.asarray(candidate_Q), np.asarray(bar_Q), np.asarray(groups_Q)
    names_G, members_Q, sizes_G = np.unique(groups, return_inverse=True, return_counts=True)
    large_G = np.flatnonzero(sizes_G >= min_queries)
    if large_G.size == 0:
        return None
    candidate_G = np.bincount(members_Q, weights=candidate) / sizes_G
    bar_G = np.bincount(members_Q, weights=bar) / sizes_G
    worst = large_G[np.argmin((candidate_G - bar_G)[large_G])]
    return {"group": float(names_G[worst]), "candidate": float(candidate_G[worst]), "bar": float(bar_G[worst])}


def negative_flips(right_before_Q: npt.ArrayLike, right_after_Q: npt.ArrayLike) -> float:
    """Share of all queries that were right at rank 1 before and are wrong after (Yan et al., CVPR 2021).

    Examples:
        >>> negative_flips([True, True, False, True], [True, False, True, True])
        0.25
    """
    before, after = np.asarray(right_before_Q, dtype=np.bool_), np.asarray(right_after_Q, dtype=np.bool_)
    return float((before & ~after).mean()) if before.size else 0.0
