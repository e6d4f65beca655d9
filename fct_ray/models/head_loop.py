"""Fitting the head of an encoder on its frozen backbone: features are computed once, then the head learns from them.

Owns: the pass that computes features, and the head's optimiser. Fitting all weights is `encoder_loop`. Legend: N images,
F numbers of a feature vector, D dimensions of the embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fct_ray.errors import FitError, SettingsError
from fct_ray.models.encoder import Encoder
from fct_ray.models.encoder_loop import TELL_EVERY, EncoderLoopSettings, build_model
from fct_ray.models.fit_worker import FitWorker
from fct_ray.models.flops import flops_per_item, training_flops_per_item
from fct_ray.models.schedule import warmup_cosine
from fct_ray.models.seeding import generator, seed_everything
from fct_ray.models.supervised import SupervisedModel

FEATURE_ROWS = 32
"""Images whose features are computed at a time, at most; fewer than these are left out, because batches are whole."""


class HeadModel(nn.Module):
    """The head and the classifier whose loss fits it, as the one module that DDP wraps."""

    def __init__(self, supervised: SupervisedModel) -> None:
        super().__init__()
        self.head, self.classifier = supervised.encoder.head, supervised.classifier

    def forward(self, features_NF: Tensor, labels_N: Tensor) -> Tensor:
        """The mean loss, a scalar."""
        loss: Tensor = self.classifier(functional.normalize(self.head(features_NF), dim=1), labels_N)
        return loss


def head_loop(worker: FitWorker, settings: EncoderLoopSettings) -> None:
    """Fit the head of one encoder; the checkpoint's `encoder` is the state dict of the whole encoder.

    Raises:
        SettingsError: the loss is contrastive, which wants another view of each image in every epoch.
        FitError: the fit diverged.
    """
    fit = settings.fit
    seed_everything(settings.seed)
    module = build_model(settings).to(worker.device)
    if not isinstance(module, SupervisedModel):
        raise SettingsError(
            "--fit.freeze-backbone computes each image's features once, and simclr wants new views in every epoch; choose "
            "cross_entropy or arcface, or leave --fit.freeze-backbone out"
        )
    features_NF, labels_N = _features(worker, module.encoder, settings)
    model = worker.prepare(HeadModel(module))
    optimizer = torch.optim.AdamW(model.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay)
    batch_rows = max(2, fit.batch_size // worker.world_size)
    steps = max(1, settings.num_items // worker.world_size // batch_rows)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps * fit.epochs, fit.warmup_share))
    loss = math.nan
    for epoch in range(fit.epochs):
        order = torch.randperm(len(features_NF), generator=generator(settings.seed * 100_003 + epoch))
        for step in range(steps):
            rows = order[step * batch_rows : (step + 1) * batch_rows]
            batch_loss = model(features_NF[rows], labels_N[rows])
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            optimizer.step()
            schedule.step()
            if step % TELL_EVERY == 0:
                loss = float(batch_loss.detach())
                worker.tell(epoch * steps + step, steps * fit.epochs, f"loss {loss:.3f}")
        loss = float(batch_loss.detach())
    if not math.isfinite(loss):
        raise FitError(
            f"the fit diverged (loss {loss}); want a finite loss: lower --fit.learning-rate (now {fit.learning_rate})"
        )
    rows_seen = steps * batch_rows * fit.epochs
    worker.count(rows=rows_seen, flops=rows_seen * training_flops_per_item(module.encoder.head, (features_NF[:2],)))
    worker.save({"encoder": module.encoder.state_dict(), "loss": loss}, {"loss": loss})
    worker.tell(steps * fit.epochs, steps * fit.epochs, "done")


def _features(worker: FitWorker, encoder: Encoder, settings: EncoderLoopSettings) -> tuple[Tensor, Tensor]:
    """features_NF and labels_N of this worker's images."""
    encoder.backbone.eval()
    side, channels = settings.architecture.image_size, settings.architecture.channels_in
    flops = flops_per_item(encoder.backbone, (torch.zeros(1, channels, side, side, device=worker.device),))
    batch_rows = min(FEATURE_ROWS, max(2, settings.fit.batch_size // worker.world_size))
    total = max(1, settings.num_items // worker.world_size)
    features, labels, done = [], [], 0
    with torch.inference_mode():
        for batch in worker.batches(batch_rows, settings.seed):
            features.append(encoder.backbone(encoder.prepare(batch["image"])))
            labels.append(batch["label"].to(worker.device))
            done += len(labels[-1])
            worker.count(rows=0, flops=flops * len(labels[-1]))
            worker.tell(done, total, "features of the frozen backbone")
    return torch.cat(features).clone(), torch.cat(labels).clone()
