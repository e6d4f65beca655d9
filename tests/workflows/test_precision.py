"""bfloat16: how far it is from float32, that h is judged as it will be computed, and what a version says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fct_ray.plan.gate import MAX_PRECISION_LOSS, loses_too_much, with_loss

from fct_ray.judgements import GateResult
from fct_ray.kinds import Method, Metric, Precision
from fct_ray.models.model_files import LoadedModel, pack_model, unpack_model
from fct_ray.models.seeding import seed_everything
from fct_ray.models.transformation import Transformation, TransformationArchitecture, export
from fct_ray.models.transformation_runner import OverlappedBatches, TransformRunner
from fct_ray.shards.model_directory import load_model
from fct_ray.storage.vector_columns import are_normalized
from fct_ray.workflows.upgrade.gate import GateOutcome, run_gate, run_gate_in
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from fct_ray.workflows.upgrade.settings import GateSettings
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.fashion_vectors import Vectors
from tests.workflows.living import Living

BOTH = (Precision.FLOAT32, Precision.BFLOAT16)


@pytest.fixture(scope="module")
def mlp(vectors: Vectors) -> LoadedModel:
    """An h of random weights that has seen the photos, so that its BatchNorm is not the identity."""
    seed_everything(0)
    module = Transformation(TransformationArchitecture(old_dimension=6, side_dimension=24, new_dimension=48, inner=64))
    with torch.no_grad():
        module(torch.from_numpy(vectors.old_ND[:1000]), torch.from_numpy(vectors.side_NS[:1000]))
    packed = pack_model(
        module.eval(), kind="transformation", name="h", provenance={}, from_encoder="a", to_encoder="b",
        side_fingerprint="c",
    )  # fmt: skip
    return unpack_model(packed.model_json, packed.weights, "memory")


def test_bfloat16_gives_unit_vectors_near_those_of_float32(mlp: LoadedModel, vectors: Vectors) -> None:
    exact, near = (
        TransformRunner(mlp, batch_rows=300, precision=precision).run(vectors.old_ND, vectors.side_NS)[0]
        for precision in BOTH
    )
    assert near.dtype == np.float32
    assert near.shape == exact.shape
    assert are_normalized(near)
    assert 1e-4 < np.abs(near - exact).max() < 2e-2  # of vectors whose largest numbers are about 0.5


@pytest.mark.parametrize("rows", [1, 299, 300, 900, 901, 1500, 2950])
def test_where_batches_overlap_every_row_comes_out_where_it_belongs(
    mlp: LoadedModel, vectors: Vectors, rows: int
) -> None:
    batches = OverlappedBatches(export(mlp.transformation(), torch.float32), torch.float32, 300, torch.device("cpu"))
    for first in (0, 5):  # the second shard finds the first one's vectors in the streams' memory
        old_ND, side_NS = (array[first : first + rows] for array in (vectors.old_ND, vectors.side_NS))
        in_turn_NW, _ = TransformRunner(mlp, batch_rows=300).run(old_ND, side_NS)
        out_NW = np.full_like(in_turn_NW, np.nan)
        with torch.inference_mode():
            batches.run([old_ND, side_NS], out_NW)
        assert len(out_NW) == rows
        np.testing.assert_array_equal(out_NW, in_turn_NW)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [(BOTH[0], 1e-4), (BOTH[1], 2e-2)])
def test_a_gpu_gives_what_the_cpu_gives_in_batches_of_any_size(
    mlp: LoadedModel, vectors: Vectors, monkeypatch: pytest.MonkeyPatch, precision: Precision, tolerance: float
) -> None:
    on_gpu, used = TransformRunner(mlp, batch_rows=300, precision=precision).run(vectors.old_ND, vectors.side_NS)
    assert used.busy_gpu_s > 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu, _ = TransformRunner(mlp, batch_rows=1000, precision=precision).run(vectors.old_ND, vectors.side_NS)
    assert np.abs(on_gpu - on_cpu).max() < tolerance


@pytest.fixture
def judge(living: Living, vectors: Vectors) -> Callable[[Precision | None, Precision], GateOutcome]:
    some = np.arange(400)
    pairs = Pairs(
        ids_P=vectors.ids_N[some], old_PD=vectors.old_ND[some], side_PS=vectors.side_NS[some],
        new_PW=vectors.new_NW[some], labels_P=None,
    )  # fmt: skip

    gate = partial(
        run_gate, pairs, {Method.LINEAR_SIDE: load_model(living.h)}, old_metric=Metric.IP, new_metric=Metric.IP,
        settings=GateSettings(), batch_rows=1000, uncovered_share=0.0,
    )  # fmt: skip
    return lambda asked, fast: run_gate_in(gate, asked=asked, fast=fast)


def test_the_gate_judges_h_as_it_will_be_computed_and_says_what_speed_cost(
    judge: Callable[[Precision | None, Precision], GateOutcome],
) -> None:
    exact = judge(None, Precision.FLOAT32).result
    assert (exact.precision, exact.precision_loss) == (Precision.FLOAT32, None)
    assert judge(Precision.FLOAT32, Precision.BFLOAT16).result == exact
    fast = judge(None, Precision.BFLOAT16)
    assert fast.result.precision is Precision.BFLOAT16
    assert fast.result.cosine != exact.cosine
    assert fast.result.precision_loss is not None
    assert abs(fast.result.precision_loss) < MAX_PRECISION_LOSS
    assert fast.usage.flops == 2 * judge(None, Precision.FLOAT32).usage.flops
    assert judge(Precision.BFLOAT16, Precision.FLOAT32).result == fast.result


def test_half_a_point_of_agreement_is_too_much_unasked(
    judge: Callable[[Precision | None, Precision], GateOutcome],
) -> None:
    exact = judge(None, Precision.FLOAT32).result

    def with_agreement(lost: float) -> GateResult:
        return replace(exact, agreement={name: value - lost for name, value in exact.agreement.items()})

    assert not loses_too_much(with_loss(with_agreement(0.004), exact))
    assert loses_too_much(with_loss(with_agreement(0.006), exact))


def test_a_version_in_bfloat16_says_so_and_is_verified_as_such(living: Living) -> None:
    settings = replace(living.settings(), precision=Precision.BFLOAT16, index="Flat")
    outcome = run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert outcome.published is not None
    assert outcome.published.transformation is not None
    assert outcome.published.transformation.precision is Precision.BFLOAT16
    verified = verify_store(VerifySettings(store=living.store.uri))
    assert (verified.problems, verified.num_recomputed) == ((), 4)
