"""A head on a frozen, pretrained backbone: fitted on features that are computed once, packed and loaded as any encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fct_ray.errors import SettingsError
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.encoder_loop import EncoderFit, EncoderLoopSettings, EncoderLoss
from fct_ray.models.head_loop import head_loop
from fct_ray.models.model_files import pack_model, unpack_model
from fct_ray.models.module_encoder import ModuleEncoder
from fct_ray.models.seeding import generator

NUM_IMAGES, SIZE = 96, 32


@dataclass(kw_only=True)
class OneProcess:
    """The surroundings of a loop that runs in this process."""

    images: torch.Tensor
    labels: torch.Tensor
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    state: Mapping[str, Any] = field(default_factory=dict)
    passes: int = 0
    flops: float = 0.0

    def prepare(self, module: nn.Module) -> nn.Module:
        return module

    def batches(self, batch_rows: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
        self.passes += 1
        order = torch.randperm(len(self.images), generator=generator(seed))
        for rows in torch.split(order, batch_rows):
            yield {"image": self.images[rows], "label": self.labels[rows]}

    def tables(self) -> Iterator[Any]:
        raise NotImplementedError

    def tell(self, done: int, total: int, text: str) -> None: ...

    def restore(self) -> dict[str, Any] | None:
        return None

    def save(self, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        assert metrics["loss"] == state["loss"]
        self.state = state

    def count(self, *, rows: int, flops: float) -> None:
        self.flops += flops

    def mean(self, value: float) -> float:
        return value


def _settings(loss: EncoderLoss, head_width: int = 0) -> EncoderLoopSettings:
    pytest.importorskip("efficientnet_lite_pytorch")
    fit = EncoderFit(
        backbone="efficientnet_lite0",
        pretrained=True,
        freeze_backbone=True,
        dimension=16,
        head_width=head_width,
        loss=loss,
        epochs=20,
        batch_size=32,
        learning_rate=3e-3,
        scale=8.0,
    )
    architecture = EncoderArchitecture(
        backbone=fit.backbone, dimension=fit.dimension, image_size=SIZE, head_width=head_width
    )
    return EncoderLoopSettings(architecture=architecture, fit=fit, num_classes=2, num_items=NUM_IMAGES, seed=0)


def _stripes() -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy colour images of two classes: horizontal and vertical stripes, uint8 NHWC."""
    labels = torch.arange(NUM_IMAGES) % 2
    rows = (torch.arange(SIZE) // 4 % 2).float().view(1, SIZE, 1).expand(NUM_IMAGES, SIZE, SIZE)
    images = torch.where(labels.view(-1, 1, 1) == 1, rows, rows.transpose(1, 2))
    noisy = 0.6 * images[..., None] + 0.4 * torch.rand(NUM_IMAGES, SIZE, SIZE, 3, generator=generator(1))
    return (noisy * 255).to(torch.uint8), labels


@pytest.mark.parametrize("head_width", [0, 24])
def test_the_head_learns_on_features_computed_once_and_the_model_is_an_encoder(head_width: int) -> None:
    settings, (images, labels) = _settings(EncoderLoss.CROSS_ENTROPY, head_width), _stripes()
    worker = OneProcess(images=images, labels=labels)
    head_loop(worker, settings)
    assert worker.passes == 1
    assert worker.flops > 0
    assert worker.state["loss"] < 0.5

    module = Encoder(settings.architecture)
    module.load_state_dict(worker.state["encoder"])
    packed = pack_model(module, kind="encoder", name="new", provenance={})
    encoder = ModuleEncoder(unpack_model(packed.model_json, packed.weights, "here"))
    vectors = encoder.encode({"image": images.numpy()})
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    same = labels[:, None] == labels[None]
    cosines = torch.from_numpy(vectors @ vectors.T)
    assert float(cosines[same].mean()) > float(cosines[~same].mean()) + 0.3


def test_a_contrastive_loss_is_refused_because_it_wants_new_views() -> None:
    images, labels = _stripes()
    with pytest.raises(SettingsError, match="freeze-backbone"):
        head_loop(OneProcess(images=images, labels=labels), _settings(EncoderLoss.SIMCLR))
