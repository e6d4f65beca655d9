"""Losses against plain loops and hand-made angles; NT-Xent over two processes against one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from fct_ray.models.losses import ArcFaceLoss, NormalizedLinearClassifier, NTXentLoss, squared_distance


def _nt_xent_by_loop(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    views = np.concatenate([first, second]).astype(np.float64)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    rows, total = len(first), 0.0
    for i in range(2 * rows):
        partner = (i + rows) % (2 * rows)
        terms = [math.exp(float(views[i] @ views[k]) / temperature) for k in range(2 * rows) if k != i]
        total -= math.log(math.exp(float(views[i] @ views[partner]) / temperature) / sum(terms))
    return total / (2 * rows)


@pytest.mark.parametrize(("rows", "temperature"), [(1, 0.5), (5, 0.1), (8, 1.0)])
def test_nt_xent_equals_equation_one_of_simclr_in_a_plain_loop(rows: int, temperature: float) -> None:
    rng = np.random.default_rng(rows)
    first, second = rng.normal(size=(2, rows, 6)).astype(np.float32)
    loss = NTXentLoss(temperature)(torch.from_numpy(first), torch.from_numpy(second))
    assert float(loss) == pytest.approx(_nt_xent_by_loop(first, second, temperature), rel=1e-5)


def _nt_xent_worker(rank: int, rendezvous: str, first: Tensor, second: Tensor, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    own = slice(3 * rank, 3 * rank + 3)
    first, second = first[own].requires_grad_(), second[own].requires_grad_()
    loss = NTXentLoss(0.2)(first, second)
    loss.backward()
    torch.save((loss.detach(), first.grad, second.grad), f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_nt_xent_of_two_workers_has_the_loss_and_gradients_of_one_worker_with_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 4), torch.randn(6, 4)
    spawn(_nt_xent_worker, (str(tmp_path / "meet"), first, second, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    workers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    first.requires_grad_()
    second.requires_grad_()
    alone = NTXentLoss(0.2)(first, second)
    alone.backward()
    torch.testing.assert_close((workers[0][0] + workers[1][0]) / 2, alone.detach())
    # DDP averages over workers, so each worker's gradient counts half.
    torch.testing.assert_close(torch.cat([worker[1] for worker in workers]) / 2, first.grad)
    torch.testing.assert_close(torch.cat([worker[2] for worker in workers]) / 2, second.grad)


def _at_angles(*degrees: float) -> Tensor:
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack((radians.cos(), radians.sin()), dim=1)


def _set_weight(loss: ArcFaceLoss | NormalizedLinearClassifier, weight: Tensor) -> None:
    loss.double()
    with torch.no_grad():
        loss.weight.copy_(weight)


def test_arcface_adds_the_margin_to_the_true_angle_by_hand() -> None:
    loss = ArcFaceLoss(2, 2, margin=math.radians(20), scale=4.0)
    _set_weight(loss, 3.0 * _at_angles(0, 90))
    # The embedding lies 30 degrees from class 0 and 60 from class 1; with label 0 its angle counts as 50.
    true, other = 4 * math.cos(math.radians(50)), 4 * math.cos(math.radians(60))
    expected = -math.log(math.exp(true) / (math.exp(true) + math.exp(other)))
    assert loss(7.0 * _at_angles(30), torch.tensor([0])).item() == pytest.approx(expected, rel=1e-9)
    assert loss.logits(_at_angles(30))[0].tolist() == pytest.approx([4 * math.cos(math.radians(30)), other])


def test_arcface_keeps_falling_with_the_angle_beyond_pi_minus_margin() -> None:
    loss = ArcFaceLoss(2, 2, margin=0.5, scale=8.0)
    _set_weight(loss, _at_angles(0, 90))
    angles = (100, 140, 150, 152, 160, 179)
    values = [loss(_at_angles(-angle), torch.tensor([0])).item() for angle in angles]
    logits = [float(torch.logit(torch.exp(torch.tensor(-value, dtype=torch.float64)))) for value in values]
    others = [8 * math.cos(math.radians(90 + angle)) for angle in angles]
    true = [logit + other for logit, other in zip(logits, others, strict=True)]
    assert true == sorted(true, reverse=True)


def test_arcface_has_finite_gradients_on_and_opposite_of_a_class_weight() -> None:
    loss = ArcFaceLoss(2, 2)
    _set_weight(loss, _at_angles(0, 90))
    embeddings = _at_angles(0, 180).requires_grad_()
    loss(embeddings, torch.tensor([0, 0])).backward()
    assert embeddings.grad is not None
    assert bool(torch.isfinite(embeddings.grad).all())


def test_classifier_is_smoothed_cross_entropy_of_scaled_cosines_by_hand() -> None:
    loss = NormalizedLinearClassifier(2, 2, scale=5.0, label_smoothing=0.2)
    _set_weight(loss, 2.0 * _at_angles(0, 90))
    logits = [5 * math.cos(math.radians(30)), 5 * math.cos(math.radians(60))]
    log_sum = math.log(sum(math.exp(logit) for logit in logits))
    expected = 0.9 * (log_sum - logits[0]) + 0.1 * (log_sum - logits[1])
    assert loss(9.0 * _at_angles(30), torch.tensor([0])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("learnable", [False, True])
def test_the_scale_learns_only_if_asked_to(learnable: bool) -> None:
    loss = NormalizedLinearClassifier(2, 3, learnable_scale=learnable)
    loss(torch.randn(4, 2), torch.tensor([0, 1, 2, 0])).backward()
    assert (loss.log_scale.grad is not None) is learnable


def test_squared_distance_of_unit_vectors_is_two_minus_two_cosine() -> None:
    assert float(squared_distance(_at_angles(0, 0), _at_angles(60, 90))) == pytest.approx((1 + 2) / 2)
