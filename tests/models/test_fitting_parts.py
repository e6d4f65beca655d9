"""Seeds, and that the two fitted modules learn what they should on a few images."""

from __future__ import annotations

import random

import numpy as np
import torch

from fct_ray.models.augmentation import AugmentSettings, two_views
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.losses import ArcFaceLoss, NormalizedLinearClassifier
from fct_ray.models.seeding import generator, seed_everything
from fct_ray.models.simclr import SimClrModel
from fct_ray.models.supervised import SupervisedModel

ARCHITECTURE = EncoderArchitecture(
    backbone="small_cnn-4", dimension=8, channels_in=1, image_size=12, mean=(0.5,), std=(0.3,)
)


def _stripes() -> tuple[torch.Tensor, torch.Tensor]:
    """64 noisy images in two classes: horizontal and vertical stripes."""
    labels = torch.arange(64) % 2
    rows = (torch.arange(12) // 2 % 2).float().view(1, 12, 1).expand(64, 12, 12)
    images = torch.where(labels.view(-1, 1, 1) == 1, rows, rows.transpose(1, 2))
    return (0.7 * images + 0.3 * torch.rand(64, 12, 12, generator=generator(2)))[:, None], labels


def test_one_seed_repeats_python_numpy_and_torch() -> None:
    seed_everything(4)
    first = random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002, S311
    seed_everything(4)
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == first  # noqa: NPY002, S311


def test_supervised_models_learn_to_tell_two_textures_apart() -> None:
    images, labels = _stripes()
    for head in (NormalizedLinearClassifier, ArcFaceLoss):
        seed_everything(0)
        model = SupervisedModel(Encoder(ARCHITECTURE), head(8, 2, scale=8.0))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(40):
            optimizer.zero_grad()
            model(model.encoder.normalise(images), labels).backward()
            optimizer.step()
        predictions = model.eval().predictions(model.encoder.normalise(images))
        assert torch.equal(predictions, labels)


def test_simclr_brings_views_together_and_its_side_model_is_the_encoder() -> None:
    images, _ = _stripes()
    seed_everything(0)
    model = SimClrModel(Encoder(ARCHITECTURE), hidden=16, projection=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    random_draws, settings = generator(0), AugmentSettings(crop_scale=(0.8, 1.0), brightness=0.1)
    losses = []
    for _ in range(40):
        views = two_views(images, settings, random_draws)
        loss = model(*(model.encoder.normalise(view) for view in views))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    embeddings = model.encoder.eval()(model.encoder.normalise(images))
    assert embeddings.shape == (64, 8)
    assert embeddings.std(dim=0).mean().item() > 0.01  # not collapsed to a point
