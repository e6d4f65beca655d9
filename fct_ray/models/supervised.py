"""Supervised encoders: an encoder and the classifier whose loss fits it, as the one module that DDP wraps.

Owns: what the two compute together. Knows neither augmentation nor loop. Shapes: N images, C channels, H height,
W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from fct_ray.models.encoder import Encoder
from fct_ray.models.losses import ArcFaceLoss, NormalizedLinearClassifier


class SupervisedModel(nn.Module):
    """`forward(images, labels)` is the classifier's loss on the encoder's embeddings."""

    def __init__(self, encoder: Encoder, classifier: NormalizedLinearClassifier | ArcFaceLoss) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """The mean loss of normalised images with int64 labels 0 to C-1, a scalar."""
        loss: Tensor = self.classifier(self.encoder(images_NCHW), labels_N)
        return loss

    def predictions(self, images_NCHW: Tensor) -> Tensor:
        """The most likely class of each image, int64 [N]."""
        return self.classifier.logits(self.encoder(images_NCHW)).argmax(dim=1)
