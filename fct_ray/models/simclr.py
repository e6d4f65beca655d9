"""SimCLR: the encoder of side-information, fitted without labels and without knowing any later task.

Owns: the projection head and what flows through it. Knows no augmentation (`augment.py`) and no loop. The
embedding that a store keeps is the encoder's output; the head is thrown away after the fit.

Shapes: N images, C channels, H height, W width, D dim of embeddings, Z dim of projections.

Paper: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fct_ray.models.encoder import Encoder
from fct_ray.models.losses import NTXentLoss


class SimClrModel(nn.Module):
    """An encoder and a projection head; `forward` is the loss.

    The head (BatchNorm, ReLU, Linear, BatchNorm, ReLU, Linear, BatchNorm) sees the embedding before its scaling to
    unit length, so that the embedding itself is the output of a Linear, as a supervised encoder's.
    BatchNorm sees both views at once. Without BatchNorm in the head, fits on glyphs collapsed.
    """

    def __init__(self, encoder: Encoder, *, hidden: int = 256, projection: int = 128, temperature: float = 0.2) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.BatchNorm1d(encoder.architecture.dimension),
            nn.ReLU(inplace=True),
            nn.Linear(encoder.architecture.dimension, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, projection, bias=False),
            nn.BatchNorm1d(projection, affine=False),
        )
        self.loss = NTXentLoss(temperature)

    def project(self, images_NCHW: Tensor) -> Tensor:
        """projections_NZ of normalised images."""
        projections_NZ: Tensor = self.projector(self.encoder.raw_embeddings(images_NCHW))
        return projections_NZ

    def forward(self, first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
        """The NT-Xent loss between two views of the same images, a scalar; DDP may wrap this module."""
        first_NZ, second_NZ = self.project(torch.cat((first_NCHW, second_NCHW))).chunk(2)
        loss: Tensor = self.loss(first_NZ, second_NZ)
        return loss
