"""Which variant of a method goes to the gate: one that it would not refuse, if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from fct_ray.kinds import Method
from fct_ray.workflows.upgrade.candidates import Candidate
from fct_ray.workflows.upgrade.evidence import Key, Measures
from fct_ray.workflows.upgrade.gate import Measuring, best_variants


def variant(name: str, method: Method = Method.FUSED) -> Candidate:
    """A candidate as far as it is looked at here: by what it is called."""
    return Candidate(method=method, variant=name, uri="", model=cast(Any, None), queries=cast(Any, None))


def evidence(bar: Mapping[str, float], **ways: Mapping[str, float]) -> Measuring:
    """Measures of variants by their names, as means over four queries, one of which cannot be judged."""

    def over_queries(means: Mapping[str, float]) -> Measures:
        return {name: mean + np.array([0.1, -0.1, 0.0, np.nan]) for name, mean in means.items()}

    def measured(candidates: Sequence[Candidate]) -> tuple[Mapping[Key, Measures], Measures]:
        known = {one.key: over_queries(ways[one.variant]) for one in candidates if one.variant in ways}
        return known, over_queries(bar)

    return measured


BAR = {"mrr": 0.5, "recall@1": 0.4}
BOTH = [variant("bold"), variant("careful")]
KNOWN_ITEM = evidence(BAR, bold={"mrr": 0.7, "recall@1": 0.38}, careful={"mrr": 0.6, "recall@1": 0.45})
HARMS_NOTHING = evidence(BAR, bold={"mrr": 0.7, "recall@1": 0.5}, careful={"mrr": 0.6, "recall@1": 0.45})
SIMILAR = evidence({"map": 0.5}, bold={"map": 0.4}, careful={"map": 0.5})


@pytest.mark.parametrize(
    ("measures", "tolerance", "wanted"),
    [
        ([HARMS_NOTHING], 0.0, "bold"),
        ([KNOWN_ITEM], 0.0, "careful"),
        ([KNOWN_ITEM], 0.05, "bold"),
        ([HARMS_NOTHING, SIMILAR], 0.0, "careful"),
        ([evidence(BAR, bold={"mrr": 0.7, "recall@1": 0.3}, careful={"mrr": 0.6, "recall@1": 0.3})], 0.0, "bold"),
        ([evidence(BAR, careful={"mrr": 0.1, "recall@1": 0.1})], 0.0, "careful"),
    ],
    ids=["the better one", "harm in another measure", "accepted harm", "harm to the other task", "all harm", "known"],
)
def test_of_the_variants_that_harm_nothing_the_best_is_judged(
    measures: Sequence[Measuring], tolerance: float, wanted: str
) -> None:
    alone = variant("alone", Method.WHITENED)
    assert [one.variant for one in best_variants([alone, *BOTH], measures, tolerance)] == ["alone", wanted]


def test_where_every_method_has_one_variant_nothing_is_measured() -> None:
    one = [variant("alone", Method.WHITENED), variant("other", Method.FUSED)]
    assert best_variants(one, [evidence({})], 0.0) == one
