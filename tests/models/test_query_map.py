"""Queries of joined blocks get the vectors that items have; what does not fit is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.blocks import block, join_blocks
from fct_ray.models.closed_forms import identity
from fct_ray.models.query_map import QueryMap, takes_new_alone
from fct_ray.models.whitening import Moments, whitening
from tests.models.joined_blocks import (
    NEW,
    OLD,
    SIDE,
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


def test_a_query_whose_new_embedding_is_hs_gets_the_items_vector() -> None:
    module, (old, side) = joined(), stored_vectors()
    query_map = query_map_of(module)
    assert query_map.needs == ("old", "side", "new")
    assert dict(query_map.dimensions) == {"old": OLD, "side": SIDE, "new": NEW}
    assert query_map.new_dimension == OLD + 3 + NEW
    new = run(seen_h(), old, side)
    vectors = query_map({"new": new, "old": old, "side": side})
    np.testing.assert_allclose(vectors, run(module, old, side), atol=2e-6)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("normalized", [True, False])
def test_a_projected_h_maps_items_and_queries_alike(normalized: bool) -> None:
    old, side = stored_vectors()
    h = seen_h(normalized=normalized)
    new = run(h, old, side)
    affine = whitening(Moments.of(new), exponent=1.0, dimensions=3)
    module = join_blocks([block("h", 1.0, h, projection=affine)])
    np.testing.assert_allclose(run(module, old, side), unit(as_float(affine(new))), atol=1e-4)
    np.testing.assert_allclose(query_map_of(module)({"new": new}), run(module, old, side), atol=1e-4)


def test_a_longer_query_is_truncated_and_made_unit_again() -> None:
    old, _ = stored_vectors()
    module = join_blocks([block("h", 1.0, identity(OLD, OLD), query_dimension=9)])
    query_map = query_map_of(module)
    assert dict(query_map.dimensions) == {"new": 9}
    longer = unit(np.concatenate([old, old[:, :3]], axis=1))
    np.testing.assert_allclose(query_map({"new": longer}), unit(old), atol=1e-6)
    np.testing.assert_allclose(query_map({"new": longer}), run(module, old), atol=1e-6)


def test_the_same_role_in_two_blocks_is_asked_for_once() -> None:
    module = join_blocks([block("old", 0.5, OLD), block("old", 0.5, whitenings()[0])])
    assert query_map_of(module).needs == ("old",)


def test_any_other_transformation_takes_the_new_embedding_as_it_is() -> None:
    packed = pack(seen_h())
    assert takes_new_alone(packed.document)
    query_map = QueryMap.of(packed.document, None, "m")
    new = np.random.default_rng(0).normal(size=(3, NEW)).astype(np.float32)
    assert query_map({"new": new}) is new
    assert (query_map.needs, dict(query_map.dimensions)) == (("new",), {"new": NEW})


def test_queries_that_do_not_fit_are_refused_with_what_was_seen_and_wanted() -> None:
    old, side = stored_vectors()
    query_map = query_map_of(join_blocks([block("old", 0.5, OLD), block("side", 0.5, SIDE)]))
    for vectors, said in (
        ({"old": old}, r"\['old'\]; this version wants \['old', 'side'\]"),
        ({"old": old, "side": side, "new": old}, r"\['new', 'old', 'side'\]; this version wants"),
        ({"old": old, "side": old}, r"side embeddings .* \[50, 6\]; wanted \[50, 4\]"),
        ({"old": old, "side": side[:3]}, r"side embeddings .* \[3, 4\]; wanted \[50, 4\]"),
        ({"old": old[0], "side": side}, r"old embeddings .* \[6\]"),
    ):
        with pytest.raises(SettingsError, match=said):
            query_map(vectors)


def test_a_query_map_without_its_weights_is_refused() -> None:
    packed = pack(joined())
    for weights, said in ((None, "missing"), (b"other", "sha256")):
        with pytest.raises(ModelError, match=f"s3://b/m: the weights are .*{said}"):
            QueryMap.of(packed.document, weights, "s3://b/m")


def test_a_query_map_opens_without_torch() -> None:
    code = "import sys, fct_ray.models.query_map; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
