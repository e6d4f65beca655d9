"""The losses that fit encoders, side-information and transformations.

Owns: one class per idea, each with its paper; a loss works alone and under `torch.distributed` without change.
Knows no optimiser and no data.

Shapes: N rows of this worker, D dim of embeddings, C classes, M rows of all workers, W dim of new.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class NormalizedLinearClassifier(nn.Module):
    """Cross-entropy over cosine logits: logits = scale * cos(embedding, class weight), with label smoothing.

    Wang et al., "NormFace", ACM MM 2017. The scale is a parameter if `learnable_scale`, else fixed. Smoothing e
    gives the true class 1 - e + e/C and the others e/C (Szegedy et al., CVPR 2016).
    """

    def __init__(
        self,
        dimension: int,
        num_classes: int,
        *,
        scale: float = 16.0,
        learnable_scale: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dimension))
        nn.init.normal_(self.weight)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learnable_scale)
        self.label_smoothing = label_smoothing

    def logits(self, embeddings_ND: Tensor) -> Tensor:
        """logits_NC."""
        cosine_NC = functional.linear(
            functional.normalize(embeddings_ND, dim=1), functional.normalize(self.weight, dim=1)
        )
        return self.log_scale.exp() * cosine_NC

    def forward(self, embeddings_ND: Tensor, labels_N: Tensor) -> Tensor:
        """The mean loss, a scalar."""
        return functional.cross_entropy(self.logits(embeddings_ND), labels_N, label_smoothing=self.label_smoothing)


class ArcFaceLoss(nn.Module):
    """Cross-entropy with an additive angular margin: the true class's logit is scale * cos(angle + margin).

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3. Where
    angle + margin exceeds pi, the logit continues as cos(angle) - margin * sin(margin), so that it stays
    monotonic in the angle (the authors' code does the same). `margin` in radians.
    """

    def __init__(
        self,
        dimension: int,
        num_classes: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dimension))
        nn.init.normal_(self.weight)
        self.margin, self.scale, self.label_smoothing = margin, scale, label_smoothing

    def logits(self, embeddings_ND: Tensor) -> Tensor:
        """logits_NC without any margin: what classifies at inference."""
        return self.scale * functional.linear(
            functional.normalize(embeddings_ND, dim=1), functional.normalize(self.weight, dim=1)
        )

    def forward(self, embeddings_ND: Tensor, labels_N: Tensor) -> Tensor:
        """The mean loss, a scalar."""
        cosine_NC = functional.linear(
            functional.normalize(embeddings_ND, dim=1), functional.normalize(self.weight, dim=1)
        )
        true_N1 = cosine_NC.gather(1, labels_N[:, None]).clamp(-1.0, 1.0)
        # The clamp keeps the gradient of the root finite where the embedding lies on its class weight.
        sine_N1 = (1.0 - true_N1.square()).clamp_min(1e-12).sqrt()
        shifted_N1 = true_N1 * math.cos(self.margin) - sine_N1 * math.sin(self.margin)
        beyond_N1 = true_N1 < -math.cos(self.margin)
        shifted_N1 = torch.where(beyond_N1, true_N1 - self.margin * math.sin(self.margin), shifted_N1)
        logits_NC = self.scale * cosine_NC.scatter(1, labels_N[:, None], shifted_N1)
        return functional.cross_entropy(logits_NC, labels_N, label_smoothing=self.label_smoothing)


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross-entropy between two views of each item.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, equation 1:
    for view i with partner j, -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), s cosine, averaged over all
    2N views.
    If `torch.distributed` runs and `gather_distributed`, the k run over the views of all workers, and the mean
    over workers (which DDP takes of the gradients) equals the loss of one worker with the whole batch. All
    workers then need the same number of rows.
    """

    def __init__(self, temperature: float = 0.5, *, gather_distributed: bool = True) -> None:
        super().__init__()
        self.temperature, self.gather_distributed = temperature, gather_distributed

    def forward(self, first_ND: Tensor, second_ND: Tensor) -> Tensor:
        """The mean loss over this worker's 2N views, a scalar; row n of both is the same item."""
        first_ND, second_ND = functional.normalize(first_ND, dim=1), functional.normalize(second_ND, dim=1)
        num_rows = len(first_ND)
        if self.gather_distributed and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            all_first, all_second = _gathered(first_ND), _gathered(second_ND)
            offset = dist.get_rank() * num_rows
        else:
            all_first, all_second, offset = first_ND, second_ND, 0
        num_all = len(all_first)
        logits = torch.cat((first_ND, second_ND)) @ torch.cat((all_first, all_second)).T / self.temperature
        own_N = torch.arange(num_rows, device=logits.device) + offset
        itself = torch.cat((own_N, own_N + num_all))[:, None]
        logits = logits.scatter(1, itself, -math.inf)
        return functional.cross_entropy(logits, torch.cat((own_N + num_all, own_N)))


def squared_distance(output_NW: Tensor, new_NW: Tensor) -> Tensor:
    """Mean over rows of the squared distance ||output - new||^2: the loss that fits h, a scalar.

    It is the paper's mean squared error times W: independent of the dimension, and 2 - 2 cosine for unit vectors.
    """
    return (output_NW - new_NW).square().sum(dim=1).mean()


class _Gather(torch.autograd.Function):
    """all_gather along rows whose gradient is the sum over workers, sliced back to this worker's rows."""

    @staticmethod
    def forward(_ctx: Any, local_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(local_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        summed_MD = gradients[0].clone()
        dist.all_reduce(summed_MD)
        return summed_MD.chunk(dist.get_world_size())[dist.get_rank()]


def _gathered(local_ND: Tensor) -> Tensor:
    gathered: Tensor = _Gather.apply(local_ND)
    return gathered
