"""bfloat16: how far it is from float32, that h is judged as it will be computed, and what a version says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fct_ray.evaluation import ways
from fct_ray.evaluation.held_out import HeldOutItems, HeldOutMeasures
from fct_ray.judgements import GateResult
from fct_ray.kinds import EvidenceKind, Method, Metric, Precision
from fct_ray.models.model_files import LoadedModel, pack_model, unpack_model
from fct_ray.models.seeding import seed_everything
from fct_ray.models.transformation import Transformation, TransformationArchitecture, export
from fct_ray.models.transformation_runner import OverlappedBatches, TransformRunner
from fct_ray.plan.verdict import MAX_PRECISION_LOSS, Judged
from fct_ray.storage.vector_columns import are_normalized
from fct_ray.workflows.upgrade.candidates import load_candidate
from fct_ray.workflows.upgrade.evidence import FromHeldOut, as_gallery, item_queries
from fct_ray.workflows.upgrade.gate import Metrics, Work, in_precision, judge_by
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
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


Judge = Callable[[Precision | None, Precision], tuple[GateResult, Work]]


@pytest.fixture
def judge(living: Living, vectors: Vectors) -> Judge:
    """The gate over 400 held-out pairs, in the precision that is asked for or the fast one."""
    some = np.arange(400)
    pairs = Pairs(
        ids_P=vectors.ids_N[some], old_PD=vectors.old_ND[some], side_PS=vectors.side_NS[some],
        new_PW=vectors.new_NW[some], labels_P=None,
    )  # fmt: skip
    ceiling = ways.full_backfill(pairs.new_PW, pairs.new_PW, Metric.IP)
    items = HeldOutItems(ids_Q=pairs.ids_P, labels_Q=None)
    evidence = FromHeldOut(
        measure=HeldOutMeasures(items, ceiling=ceiling, k=10, min_labelled=30), queries=item_queries(pairs),
        gallery=as_gallery(pairs),
    )  # fmt: skip
    h, metrics = load_candidate(Method.LINEAR_SIDE, living.h), Metrics(old=Metric.IP, new=Metric.IP)
    by = Judged(
        kind=EvidenceKind.HELD_OUT, num_queries=400, k=10, gallery_rows=400, gallery_total=400, task=None,
        accept_provisional=True,
    )  # fmt: skip

    def judged(asked: Precision | None, fast: Precision) -> tuple[GateResult, Work]:
        work = Work()
        exact = judge_by(evidence, [h], metrics, by, batch_rows=1000, seed=0, work=work)
        result = in_precision(exact, h, evidence, metrics, asked=asked, fast=fast, batch_rows=1000, work=work)
        return result, work

    return judged


def test_the_gate_judges_h_as_it_will_be_computed_and_says_what_speed_cost(judge: Judge) -> None:
    exact, work = judge(None, Precision.FLOAT32)
    assert exact.passed
    assert (exact.precision, exact.precision_loss) == (Precision.FLOAT32, None)
    assert judge(Precision.FLOAT32, Precision.BFLOAT16)[0] == exact
    fast, more_work = judge(None, Precision.BFLOAT16)
    assert fast.precision is Precision.BFLOAT16
    assert fast.precision_loss is not None
    assert 0 < abs(fast.precision_loss) < MAX_PRECISION_LOSS
    assert more_work.usage.flops == 2 * work.usage.flops
    assert judge(Precision.BFLOAT16, Precision.FLOAT32)[0] == fast


@pytest.mark.journey
def test_a_version_in_bfloat16_says_so_and_is_verified_as_such(living: Living) -> None:
    settings = replace(living.settings(), precision=Precision.BFLOAT16, index="Flat")
    outcome = run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert outcome.published is not None
    assert outcome.published.transformation is not None
    assert outcome.published.transformation.precision is Precision.BFLOAT16
    verified = verify_store(VerifySettings(store=living.store.uri))
    assert (verified.problems, verified.num_recomputed) == ((), 4)
