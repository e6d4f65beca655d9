"""Joined blocks: the plain formula, through files and the runner."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Precision
from fct_ray.models.architectures import BlockArchitecture, BlocksArchitecture
from fct_ray.models.blocks import Block, BlockTransformation, block, join_blocks
from fct_ray.models.flops import flops_per_item, transformation_flops
from fct_ray.models.model_files import unpack_model
from fct_ray.models.query_map import QueryMap
from fct_ray.models.transformation import (
    build_transformation,
    export,
    freeze_batch_norm,
)
from fct_ray.models.transformation_runner import OverlappedBatches, TransformRunner
from tests.models.joined_blocks import (
    NEW,
    OLD,
    SIDE,
    WEIGHTS,
    as_float,
    by_hand,
    joined,
    load,
    pack,
    query_map_of,
    run,
    seen_h,
    stored_vectors,
    unit,
    whitenings,
)
from tests.models.test_model_files import _refingerprinted


def test_the_vector_is_the_plain_formula_and_has_unit_length() -> None:
    old, side = stored_vectors()
    output = run(joined(), old, side)
    np.testing.assert_allclose(output, by_hand(old, side, run(seen_h(), old, side)), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1.0, atol=1e-6)
    assert output.shape == (50, OLD + 3 + NEW)
    assert output.dtype == np.float32


def test_the_inner_product_is_the_weighted_sum_of_cosines() -> None:
    old, side = stored_vectors()
    output, new = run(joined(), old, side), run(seen_h(), old, side)
    old_map, side_map = whitenings()
    cosines = [unit(part) @ unit(part).T for part in (as_float(old_map(old)), as_float(side_map(side)), new)]
    expected = sum(w * cosine for w, cosine in zip(WEIGHTS, cosines, strict=True))
    np.testing.assert_allclose(output @ output.T, expected, atol=2e-6)


def test_a_row_of_zeros_stays_one_in_items_and_queries() -> None:
    module = join_blocks([block("old", 0.4, OLD), block("side", 0.6, SIDE)])
    old, side = stored_vectors(2)
    old[0] = 0
    output = run(module, old, side)
    assert not output[0, :OLD].any()
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), [0.6**0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(query_map_of(module)({"old": old, "side": side}), output, atol=1e-6)


def test_blocks_come_back_from_their_files() -> None:
    module, (old, side) = joined(query_dimension=9), stored_vectors()
    packed = pack(module)
    loaded = unpack_model(packed.model_json, packed.weights, "m")
    np.testing.assert_array_equal(run(loaded.module, old, side), run(module, old, side))
    assert loaded.module.architecture == module.architecture
    assert loaded.document.dimension == OLD + 3 + NEW
    assert pack(loaded.transformation()).document.fingerprint == packed.document.fingerprint


def test_the_fingerprint_of_an_mlp_is_that_of_the_first_release() -> None:
    """Its architecture has the fields of format version 1, no more: old model files must keep their fingerprints."""
    fields = {"kind", "old_dimension", "side_dimension", "new_dimension", "inner", "normalized"}
    assert set(pack(seen_h()).document.architecture) == fields


def _changed(change: dict[str, Any], number: int | None = None) -> tuple[bytes, bytes]:
    packed = pack(joined())
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
    packed = pack(joined())
    edited = _refingerprinted(packed, weights, architecture=document["architecture"], dimension=12)
    with pytest.raises(ModelError, match=r"blocks\.0\.projection.*\[6, 6\].*wanted \[6, 4\]"):
        unpack_model(edited, weights, "m")
    from fct_ray.models.model_json import parse_document

    with pytest.raises(ModelError, match=r"blocks\.0\.projection.*\[6, 6\].*wanted \[6, 4\]"):
        QueryMap.of(parse_document(edited, "m"), weights, "m")


def test_folding_reaches_the_h_in_a_block_and_changes_no_output() -> None:
    module, (old, side) = joined(), stored_vectors()
    exported = export(module)
    np.testing.assert_allclose(run(exported, old, side), run(module, old, side), atol=1e-5)
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in exported.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in module.modules())
    with pytest.raises(ModelError, match="missing"):
        pack(exported)


def test_frozen_batch_norm_reaches_the_h_in_a_block() -> None:
    module = joined().train()
    freeze_batch_norm(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module(*map(torch.from_numpy, stored_vectors()))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


@pytest.mark.parametrize("precision", list(Precision))
def test_the_runner_streams_blocks_as_the_formula_says(precision: Precision) -> None:
    old, side = stored_vectors(23)
    runner = TransformRunner(load(joined()), batch_rows=5, precision=precision)
    output, usage = runner.run(old, side)
    tolerance = 1e-5 if precision is Precision.FLOAT32 else 0.05
    np.testing.assert_allclose(output, by_hand(old, side, run(seen_h(), old, side)), atol=tolerance)
    assert usage.flops == 23 * transformation_flops(joined().architecture)


@pytest.mark.parametrize("reads", ["old", "side"])
def test_the_runner_streams_blocks_that_read_but_one_vector(reads: str) -> None:
    old, side = stored_vectors(23)
    joined = (
        join_blocks([block("side", 1.0, SIDE)], old_dimension=OLD)
        if reads == "side"
        else join_blocks([block("old", 1.0, OLD)])
    )
    output, _ = TransformRunner(load(joined), batch_rows=5).run(old, side)
    np.testing.assert_allclose(output, unit(side if reads == "side" else old), atol=1e-6)


def test_overlapped_batches_of_blocks_come_out_where_they_belong() -> None:
    old, side = stored_vectors(23)
    out = np.empty((23, OLD + 3 + NEW), np.float32)
    with torch.inference_mode():
        OverlappedBatches(export(joined()), torch.float32, 4, torch.device("cpu")).run([old, side], out)
    np.testing.assert_allclose(out, run(joined(), old, side), atol=1e-5)


def test_flops_on_paper_are_those_that_torch_counts() -> None:
    module = joined()
    inputs = tuple(map(torch.from_numpy, stored_vectors(7)))
    assert flops_per_item(module, inputs) == transformation_flops(module.architecture)
    assert transformation_flops(module.architecture) == transformation_flops(seen_h().architecture) + 2 * (
        OLD * OLD + SIDE * 3
    )


def test_an_h_without_side_stands_beside_a_block_of_it() -> None:
    old, side = stored_vectors()
    module = join_blocks([block("side", 0.5, SIDE), block("h", 0.5, seen_h(side_dimension=0))])
    expected = np.concatenate([unit(side), unit(run(seen_h(side_dimension=0), old))], axis=1) * 0.5**0.5
    np.testing.assert_allclose(run(load(module).module, old, side), expected, atol=2e-6)


def test_side_information_that_does_not_fit_is_refused_with_both_numbers() -> None:
    old, side = map(torch.from_numpy, stored_vectors())
    with pytest.raises(SettingsError, match=r"0 dimensions.*made for 4"):
        joined()(old)
    with pytest.raises(SettingsError, match=r"4 dimensions.*made for 0"):
        join_blocks([block("old", 1.0, OLD)])(old, side)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    affine = whitenings()[0]
    for make, said in (
        (lambda: join_blocks([]), "old_dimension"),
        (lambda: join_blocks([block("side", 1.0, SIDE)]), "give old_dimension"),
        (lambda: join_blocks([block("old", 0.5, OLD), block("old", 0.5, OLD + 1)]), r"\[6, 7\]"),
        (lambda: join_blocks([block("old", 0.5, OLD)]), "sum to 0.5"),
        (lambda: block("old", 1.0, affine, projection=affine), "two projections"),
        (lambda: block("h", 1.0, OLD), "transformation"),
        (lambda: block("h", 1.0, torch.nn.Linear(2, 2)), "Linear cannot be in a block"),
        (lambda: block("h", 1.0, join_blocks([block("old", 1.0, OLD)])), "cannot be in a block"),
        (lambda: BlockTransformation(joined().architecture, [block("old", 1.0, OLD)]), "join_blocks"),
    ):
        with pytest.raises(SettingsError, match=said):
            make()


def test_building_an_architecture_gives_the_tensors_that_joining_gives() -> None:
    module = joined()
    built = build_transformation(module.architecture)
    assert {name: value.shape for name, value in built.state_dict().items()} == {
        name: value.shape for name, value in module.state_dict().items()
    }
    assert isinstance(module.architecture, BlocksArchitecture)
    assert all(isinstance(part, BlockArchitecture) for part in module.architecture.blocks)
    assert all(isinstance(part, Block) for part in module.blocks)
