"""Fitting h on cached pairs: mean squared error to the new embedding, no labels (FCT, CVPR 2022).

Owns: the schedule of that fit. Pairs are read once through the worker's Ray Data shard and kept in memory, for they
are few; each epoch is a seeded permutation of them. Several candidates (with and without side-information) are fitted
in one Ray Train run, one after the other: starting workers costs more than fitting a small h.
Legend: N pairs, D old, S side, W new dimensions.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fct_ray.errors import FitError
from fct_ray.models.fit_worker import FitWorker
from fct_ray.models.flops import transformation_flops
from fct_ray.models.losses import squared_distance
from fct_ray.models.model_files import LoadedModel
from fct_ray.models.schedule import warmup_cosine
from fct_ray.models.seeding import generator, seed_everything
from fct_ray.models.transformation import Transformation, TransformationArchitecture, freeze_batch_norm
from fct_ray.settings import CheckedSettings, Count, Part, Positive, PositiveOrZero, Share

BACKWARD_FACTOR = 3  # forward 1, gradients of inputs and weights 2


@dataclass(frozen=True, kw_only=True)
class TransformationFit(CheckedSettings):
    """How h is fitted. The published recipe is Adam 5e-4, weight decay 3e-5, 80 epochs, batch 1024, inner 2048."""

    inner: Count = 1024
    """Width of h's mixing layers (2048 in the paper; 1024 costs a third)."""
    epochs: Count = 40
    """Passes over the pairs at most."""
    batch_size: Count = 256
    """Pairs per step, over all workers; with few pairs small batches win, for the number of steps counts."""
    learning_rate: Positive = 1e-3
    """Peak of the warm-up-then-cosine schedule."""
    weight_decay: PositiveOrZero = 3e-5
    """Adam's L2 penalty."""
    warmup_share: Share = 0.06
    """Share of the steps in which the learning rate rises."""
    frozen_share: Share = 0.25
    """Share of the epochs, at the end, in which BatchNorm statistics are frozen."""
    patience: Count = 10
    """Stop after so many epochs without a better validation loss."""
    validation_share: Part = 0.1
    """Share of the fit's pairs that choose the best epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformationLoopSettings:
    """One Ray Train run: the candidates in order, and how each is fitted."""

    architectures: tuple[TransformationArchitecture, ...]
    fit: TransformationFit
    seed: int
    start_from: LoadedModel | None = None
    """A transformation whose weights the candidate of its architecture starts from."""


Tensors = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]


def transformation_loop(worker: FitWorker, settings: TransformationLoopSettings) -> None:
    """Fit every candidate; the last checkpoint's `done` holds their state dicts in order."""
    fit_part, validation = _load_pairs(worker, settings)
    state = worker.restore() or {"done": [], "current": None, "history": []}
    for position in range(len(state["done"]), len(settings.architectures)):
        architecture = settings.architectures[position]
        with_side = architecture.side_dimension > 0
        parts = (_chosen(fit_part, with_side), _chosen(validation, with_side))
        best, history = _fit_one(worker, settings, architecture, *parts, state)
        state = {"done": [*state["done"], best], "current": None, "history": [*state["history"], history]}
        worker.save(state, {"validation_mse": history[-1]})


def _load_pairs(worker: FitWorker, settings: TransformationLoopSettings) -> tuple[Tensors, Tensors]:
    columns: dict[str, list[np.ndarray]] = {}
    for batch in worker.tables():
        for name in batch.column_names:
            column = batch.column(name).combine_chunks()
            values = column.to_numpy() if name == "id" else column.flatten().to_numpy().reshape(len(column), -1)
            columns.setdefault(name, []).append(values)
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.argsort(arrays["id"], kind="stable")
    order = order[np.random.default_rng(settings.seed).permutation(len(order))]
    held_out = max(1, round(settings.fit.validation_share * len(order)))

    def part(rows: np.ndarray) -> Tensors:
        tensors = {name: torch.from_numpy(arrays[name][rows].copy()).to(worker.device) for name in arrays}
        return tensors["old"], tensors.get("side"), tensors["new"]

    if len(order) < 16:
        raise FitError(
            f"a worker has {len(order)} pairs to fit h on; want at least 16: give more pairs or fewer workers"
        )
    return part(order[held_out:]), part(order[:held_out])


def _chosen(part: Tensors, with_side: bool) -> Tensors:
    return part if with_side else (part[0], None, part[2])


def _fit_one(
    worker: FitWorker,
    settings: TransformationLoopSettings,
    architecture: TransformationArchitecture,
    fit_part: Tensors,
    validation: Tensors,
    state: dict[str, Any],
) -> tuple[dict[str, torch.Tensor], list[float]]:
    fit = settings.fit
    seed_everything(settings.seed)
    module = Transformation(architecture).to(worker.device)
    if settings.start_from is not None:
        start_from = settings.start_from.transformation()
        if start_from.architecture == architecture:
            module.load_state_dict(start_from.state_dict())
    model = worker.prepare(module)
    optimizer = torch.optim.Adam(module.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay)
    batch_rows = max(8, min(fit.batch_size // worker.world_size, len(fit_part[0]) // 2))
    steps = len(fit_part[0]) // batch_rows
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps * fit.epochs, fit.warmup_share))
    start, stale, best, best_loss, history = 0, 0, copy.deepcopy(module.state_dict()), math.inf, []
    if state["current"] is not None:
        current = state["current"]
        module.load_state_dict(current["module"])
        optimizer.load_state_dict(current["optimizer"])
        schedule.load_state_dict(current["schedule"])
        start, stale, history = current["epoch"], current["stale"], current["history"]
        best, best_loss = current["best"], current["best_loss"]
    flops_per_row = BACKWARD_FACTOR * transformation_flops(architecture)
    checkpoint_every = max(1, fit.epochs // 4)
    for epoch in range(start, fit.epochs):
        _epoch(worker, model, module, optimizer, schedule, fit_part, batch_rows, epoch, settings)
        worker.count(rows=steps * batch_rows, flops=steps * batch_rows * flops_per_row)
        loss = worker.mean(_validation_loss(module, validation))
        history.append(loss)
        if not math.isfinite(loss):
            raise FitError(f"h diverged in epoch {epoch + 1} (validation loss {loss}); lower --fit.learning-rate")
        worker.tell(epoch + 1, fit.epochs, f"{_label(architecture)} validation mse {loss:.5f}")
        if loss < best_loss:
            best, best_loss, stale = copy.deepcopy(module.state_dict()), loss, 0
        else:
            stale += 1
        if stale >= fit.patience:
            break
        if (epoch + 1) % checkpoint_every == 0 and epoch + 1 < fit.epochs:
            current = {
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch + 1,
                "stale": stale,
                "best": best,
                "best_loss": best_loss,
                "history": history,
            }
            worker.save({**state, "current": current}, {"validation_mse": loss})
    return best, history


def _epoch(
    worker: FitWorker,
    model: nn.Module,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    fit_part: Tensors,
    batch_rows: int,
    epoch: int,
    settings: TransformationLoopSettings,
) -> None:
    old_ND, side_NS, new_NW = fit_part
    model.train()
    if epoch >= settings.fit.epochs * (1 - settings.fit.frozen_share):
        freeze_batch_norm(module)
    random = generator(settings.seed * 100_003 + epoch * 101 + worker.rank)
    order = torch.randperm(len(old_ND), generator=random).to(worker.device)
    for start in range(0, len(order) - batch_rows + 1, batch_rows):
        rows = order[start : start + batch_rows]
        predicted_NW = model(old_ND[rows], side_NS[rows] if side_NS is not None else None)
        loss = squared_distance(predicted_NW, new_NW[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _validation_loss(module: nn.Module, validation: Tensors) -> float:
    old_ND, side_NS, new_NW = validation
    module.eval()
    with torch.inference_mode():
        return float(squared_distance(module(old_ND, side_NS), new_NW))


def _label(architecture: TransformationArchitecture) -> str:
    return "with side-information," if architecture.side_dimension else "without side-information,"
