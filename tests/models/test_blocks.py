"""Joined blocks: the plain formula, through files and the runner; queries get the vectors that items have."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Precision
from fct_ray.models.architectures import BlockArchitecture, BlocksArchitecture
from fct_ray.models.blocks import Block, BlockTransformation, block, join_blocks
from fct_ray.models.closed_forms import identity
from fct_ray.models.flops import flops_per_item, transformation_flops
from fct_ray.models.model_files import LoadedModel, PackedModel, pack_model, unpack_model
from fct_ray.models.query_map import QueryMap, takes_new_alone
from fct_ray.models.transformation import (
    AnyTransformation,
    Transformation,
    TransformationArchitecture,
    build_transformation,
    export,
    freeze_batch_norm,
)
from fct_ray.models.transformation_runner import OverlappedBatches, TransformRunner
from fct_ray.models.whitening import Affine, Moments, whitening
from tests.models.test_model_files import _refingerprinted

Array = np.ndarray[Any, np.dtype[np.float32]]
OLD, SIDE, NEW = 6, 4, 5
WEIGHTS = (0.2, 0.1, 0.7)


def _vectors(rows: int = 50) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    old, side = rng.normal(size=(rows, OLD)) + 1, rng.normal(size=(rows, SIDE)) * 2 - 1
    return old.astype(np.float32), side.astype(np.float32)


def _h(*, side_dimension: int = SIDE, normalized: bool = True) -> Transformation:
    """An h whose BatchNorms have seen data."""
    torch.manual_seed(1)
    module = Transformation(
        TransformationArchitecture(
            old_dimension=OLD, side_dimension=side_dimension, new_dimension=NEW, inner=16, normalized=normalized
        )
    )
    old, side = map(torch.from_numpy, _vectors())
    for _ in range(3):
        module(old, side if side_dimension else None)
    return module.eval()


def _whitenings() -> tuple[Affine, Affine]:
    old, side = (whitening(Moments.of(rows), exponent=0.5) for rows in _vectors(400))
    return old, dataclasses.replace(side, projection_DP=side.projection_DP[:, :3])


def _joined(**settings: Any) -> BlockTransformation:
    old, side = _whitenings()
    parts = [block("old", WEIGHTS[0], old), block("side", WEIGHTS[1], side), block("h", WEIGHTS[2], _h(), **settings)]
    return join_blocks(parts)


def _pack(module: AnyTransformation) -> PackedModel:
    return pack_model(
        module,
        kind="transformation",
        name="h",
        provenance={},
        from_encoder="a",
        to_encoder="b",
        side_fingerprint="c" if module.architecture.side_dimension else None,
    )


def _load(module: AnyTransformation) -> LoadedModel:
    packed = _pack(module)
    return unpack_model(packed.model_json, packed.weights, "m")


def _map(module: AnyTransformation) -> QueryMap:
    packed = _pack(module)
    return QueryMap.of(packed.document, packed.weights, "m")


def _run(module: torch.nn.Module, *inputs: Array | None) -> Array:
    with torch.inference_mode():
        output: Array = module(*(None if array is None else torch.from_numpy(array) for array in inputs)).numpy()
    return output


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _float(rows: np.ndarray[Any, Any]) -> Array:
    return rows.astype(np.float32)


def _by_hand(old: Array, side: Array, new: Array) -> Array:
    old_map, side_map = _whitenings()
    parts: tuple[np.ndarray[Any, Any], ...] = (
        (old - old_map.mean_D) @ old_map.projection_DP,
        (side - side_map.mean_D) @ side_map.projection_DP,
        new,
    )
    return np.concatenate([_unit(_float(part)) * w**0.5 for part, w in zip(parts, WEIGHTS, strict=True)], axis=1)


def test_the_vector_is_the_plain_formula_and_has_unit_length() -> None:
    old, side = _vectors()
    output = _run(_joined(), old, side)
    np.testing.assert_allclose(output, _by_hand(old, side, _run(_h(), old, side)), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1.0, atol=1e-6)
    assert output.shape == (50, OLD + 3 + NEW)
    assert output.dtype == np.float32


def test_the_inner_product_is_the_weighted_sum_of_cosines() -> None:
    old, side = _vectors()
    output, new = _run(_joined(), old, side), _run(_h(), old, side)
    old_map, side_map = _whitenings()
    cosines = [_unit(part) @ _unit(part).T for part in (_float(old_map(old)), _float(side_map(side)), new)]
    expected = sum(w * cosine for w, cosine in zip(WEIGHTS, cosines, strict=True))
    np.testing.assert_allclose(output @ output.T, expected, atol=2e-6)


def test_a_row_of_zeros_stays_one_in_items_and_queries() -> None:
    module = join_blocks([block("old", 0.4, OLD), block("side", 0.6, SIDE)])
    old, side = _vectors(2)
    old[0] = 0
    output = _run(module, old, side)
    assert not output[0, :OLD].any()
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), [0.6**0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(_map(module)({"old": old, "side": side}), output, atol=1e-6)


def test_blocks_come_back_from_their_files() -> None:
    module, (old, side) = _joined(query_dimension=9), _vectors()
    packed = _pack(module)
    loaded = unpack_model(packed.model_json, packed.weights, "m")
    np.testing.assert_array_equal(_run(loaded.module, old, side), _run(module, old, side))
    assert loaded.module.architecture == module.architecture
    assert loaded.document.dimension == OLD + 3 + NEW
    assert _pack(loaded.transformation()).document.fingerprint == packed.document.fingerprint


def test_the_fingerprint_of_an_mlp_is_that_of_the_first_release() -> None:
    """Its architecture has the fields of format version 1, no more: old model files must keep their fingerprints."""
    fields = {"kind", "old_dimension", "side_dimension", "new_dimension", "inner", "normalized"}
    assert set(_pack(_h()).document.architecture) == fields


def _changed(change: dict[str, Any], number: int | None = None) -> tuple[bytes, bytes]:
    packed = _pack(_joined())
    architecture = json.loads(packed.model_json)["architecture"]
    (architecture if number is None else architecture["blocks"][number]).update(change)
    return _refingerprinted(packed, packed.weights, architecture=architecture), packed.weights


@pytest.mark.parametrize(
    ("change", "number", "said"),
    [
        ({"kind": "heap"}, None, "architecture"),
        ({"surprise": 1}, None, "fields"),
        ({"surprise": 1}, 0, "fields"),
        ({"weight": 0.3}, 0, r"sum to 1\.1; wanted 1"),
        ({"weight": float("nan")}, 0, "nan"),
        ({"weight": -0.2}, 0, "more than 0"),
        ({"weight": "0.2"}, 0, "weight"),
        ({"in_dimension": True}, 0, "in_dimension"),
        ({"in_dimension": 7}, 0, "old vectors have 6"),
        ({"reads": "new"}, 0, "reads"),
        ({"projected": False}, 1, "without a projection"),
        ({"transformation": None}, 2, "transformation"),
        ({"query_dimension": 3}, 2, "5 or more"),
        ({"query_dimension": 7}, 0, "of 7 dimensions; wanted 6"),
        ({"query_dimension": (1 << 24) + 1}, 2, "above"),
        ({"normalized": False}, None, "always normalized"),
        ({"new_dimension": 15}, None, "14 dimensions together"),
        ({"side_dimension": 0}, None, "side"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(change: dict[str, Any], number: int | None, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        unpack_model(*_changed(change, number), "m")


def test_a_projection_of_another_shape_is_refused_in_both_readers() -> None:
    model_json, weights = _changed({"in_dimension": 6, "out_dimension": 4, "projected": True}, 0)
    document = json.loads(model_json)
    document["architecture"]["new_dimension"] = 12
    packed = _pack(_joined())
    edited = _refingerprinted(packed, weights, architecture=document["architecture"], dimension=12)
    with pytest.raises(ModelError, match=r"blocks\.0\.projection.*\[6, 6\].*wanted \[6, 4\]"):
        unpack_model(edited, weights, "m")
    from fct_ray.models.model_json import parse_document

    with pytest.raises(ModelError, match=r"blocks\.0\.projection.*\[6, 6\].*wanted \[6, 4\]"):
        QueryMap.of(parse_document(edited, "m"), weights, "m")


def test_folding_reaches_the_h_in_a_block_and_changes_no_output() -> None:
    module, (old, side) = _joined(), _vectors()
    exported = export(module)
    np.testing.assert_allclose(_run(exported, old, side), _run(module, old, side), atol=1e-5)
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in exported.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in module.modules())
    with pytest.raises(ModelError, match="missing"):
        _pack(exported)


def test_frozen_batch_norm_reaches_the_h_in_a_block() -> None:
    module = _joined().train()
    freeze_batch_norm(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module(*map(torch.from_numpy, _vectors()))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


@pytest.mark.parametrize("precision", list(Precision))
def test_the_runner_streams_blocks_as_the_formula_says(precision: Precision) -> None:
    old, side = _vectors(23)
    runner = TransformRunner(_load(_joined()), batch_rows=5, precision=precision)
    output, usage = runner.run(old, side)
    tolerance = 1e-5 if precision is Precision.FLOAT32 else 0.05
    np.testing.assert_allclose(output, _by_hand(old, side, _run(_h(), old, side)), atol=tolerance)
    assert usage.flops == 23 * transformation_flops(_joined().architecture)


@pytest.mark.parametrize("reads", ["old", "side"])
def test_the_runner_streams_blocks_that_read_but_one_vector(reads: str) -> None:
    old, side = _vectors(23)
    joined = (
        join_blocks([block("side", 1.0, SIDE)], old_dimension=OLD)
        if reads == "side"
        else join_blocks([block("old", 1.0, OLD)])
    )
    output, _ = TransformRunner(_load(joined), batch_rows=5).run(old, side)
    np.testing.assert_allclose(output, _unit(side if reads == "side" else old), atol=1e-6)


def test_overlapped_batches_of_blocks_come_out_where_they_belong() -> None:
    old, side = _vectors(23)
    out = np.empty((23, OLD + 3 + NEW), np.float32)
    with torch.inference_mode():
        OverlappedBatches(export(_joined()), torch.float32, 4, torch.device("cpu")).run([old, side], out)
    np.testing.assert_allclose(out, _run(_joined(), old, side), atol=1e-5)


def test_flops_on_paper_are_those_that_torch_counts() -> None:
    module = _joined()
    inputs = tuple(map(torch.from_numpy, _vectors(7)))
    assert flops_per_item(module, inputs) == transformation_flops(module.architecture)
    assert transformation_flops(module.architecture) == transformation_flops(_h().architecture) + 2 * (
        OLD * OLD + SIDE * 3
    )


def test_an_h_without_side_stands_beside_a_block_of_it() -> None:
    old, side = _vectors()
    module = join_blocks([block("side", 0.5, SIDE), block("h", 0.5, _h(side_dimension=0))])
    expected = np.concatenate([_unit(side), _unit(_run(_h(side_dimension=0), old))], axis=1) * 0.5**0.5
    np.testing.assert_allclose(_run(_load(module).module, old, side), expected, atol=2e-6)


def test_a_query_whose_new_embedding_is_hs_gets_the_items_vector() -> None:
    module, (old, side) = _joined(), _vectors()
    query_map = _map(module)
    assert query_map.needs == ("old", "side", "new")
    assert dict(query_map.dimensions) == {"old": OLD, "side": SIDE, "new": NEW}
    assert query_map.new_dimension == OLD + 3 + NEW
    new = _run(_h(), old, side)
    vectors = query_map({"new": new, "old": old, "side": side})
    np.testing.assert_allclose(vectors, _run(module, old, side), atol=2e-6)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("normalized", [True, False])
def test_a_projected_h_maps_items_and_queries_alike(normalized: bool) -> None:
    old, side = _vectors()
    h = _h(normalized=normalized)
    new = _run(h, old, side)
    affine = whitening(Moments.of(new), exponent=1.0, dimensions=3)
    module = join_blocks([block("h", 1.0, h, projection=affine)])
    np.testing.assert_allclose(_run(module, old, side), _unit(_float(affine(new))), atol=1e-4)
    np.testing.assert_allclose(_map(module)({"new": new}), _run(module, old, side), atol=1e-4)


def test_a_longer_query_is_truncated_and_made_unit_again() -> None:
    old, _ = _vectors()
    module = join_blocks([block("h", 1.0, identity(OLD, OLD), query_dimension=9)])
    query_map = _map(module)
    assert dict(query_map.dimensions) == {"new": 9}
    longer = _unit(np.concatenate([old, old[:, :3]], axis=1))
    np.testing.assert_allclose(query_map({"new": longer}), _unit(old), atol=1e-6)
    np.testing.assert_allclose(query_map({"new": longer}), _run(module, old), atol=1e-6)


def test_the_same_role_in_two_blocks_is_asked_for_once() -> None:
    module = join_blocks([block("old", 0.5, OLD), block("old", 0.5, _whitenings()[0])])
    assert _map(module).needs == ("old",)


def test_any_other_transformation_takes_the_new_embedding_as_it_is() -> None:
    packed = _pack(_h())
    assert takes_new_alone(packed.document)
    query_map = QueryMap.of(packed.document, None, "m")
    new = np.random.default_rng(0).normal(size=(3, NEW)).astype(np.float32)
    assert query_map({"new": new}) is new
    assert (query_map.needs, dict(query_map.dimensions)) == (("new",), {"new": NEW})


def test_queries_that_do_not_fit_are_refused_with_what_was_seen_and_wanted() -> None:
    old, side = _vectors()
    query_map = _map(join_blocks([block("old", 0.5, OLD), block("side", 0.5, SIDE)]))
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
    packed = _pack(_joined())
    for weights, said in ((None, "missing"), (b"other", "sha256")):
        with pytest.raises(ModelError, match=f"s3://b/m: the weights are .*{said}"):
            QueryMap.of(packed.document, weights, "s3://b/m")


def test_a_query_map_opens_without_torch() -> None:
    code = "import sys, fct_ray.models.query_map; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_side_information_that_does_not_fit_is_refused_with_both_numbers() -> None:
    old, side = map(torch.from_numpy, _vectors())
    with pytest.raises(SettingsError, match=r"0 dimensions.*made for 4"):
        _joined()(old)
    with pytest.raises(SettingsError, match=r"4 dimensions.*made for 0"):
        join_blocks([block("old", 1.0, OLD)])(old, side)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    affine = _whitenings()[0]
    for make, said in (
        (lambda: join_blocks([]), "old_dimension"),
        (lambda: join_blocks([block("side", 1.0, SIDE)]), "give old_dimension"),
        (lambda: join_blocks([block("old", 0.5, OLD), block("old", 0.5, OLD + 1)]), r"\[6, 7\]"),
        (lambda: join_blocks([block("old", 0.5, OLD)]), "sum to 0.5"),
        (lambda: block("old", 1.0, affine, projection=affine), "two projections"),
        (lambda: block("h", 1.0, OLD), "transformation"),
        (lambda: block("h", 1.0, torch.nn.Linear(2, 2)), "Linear cannot be in a block"),
        (lambda: block("h", 1.0, join_blocks([block("old", 1.0, OLD)])), "cannot be in a block"),
        (lambda: BlockTransformation(_joined().architecture, [block("old", 1.0, OLD)]), "join_blocks"),
    ):
        with pytest.raises(SettingsError, match=said):
            make()


def test_building_an_architecture_gives_the_tensors_that_joining_gives() -> None:
    module = _joined()
    built = build_transformation(module.architecture)
    assert {name: value.shape for name, value in built.state_dict().items()} == {
        name: value.shape for name, value in module.state_dict().items()
    }
    assert isinstance(module.architecture, BlocksArchitecture)
    assert all(isinstance(part, BlockArchitecture) for part in module.architecture.blocks)
    assert all(isinstance(part, Block) for part in module.blocks)
