"""Pixels to embeddings: channels, sizes, backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fct_ray.errors import DataError, SettingsError
from fct_ray.models.backbones import build_backbone
from fct_ray.models.encoder import Encoder, EncoderArchitecture, unit_images
from fct_ray.models.flops import flops_per_item

GREY = EncoderArchitecture(
    backbone="small_cnn-4", dimension=8, channels_in=1, image_size=12, mean=(0.25,), std=(0.5,), normalized=True
)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "channels", "feature_dim", "mega_macs"),
    [
        ("small_cnn-8", 1, 64, 0.8),
        ("small_cnn-16", 1, 128, 3.0),
        ("small_cnn-16x4", 1, 2048, 3.0),
        ("small_cnn-32", 1, 256, 12.0),
    ],
)
def test_small_cnn_costs_what_the_table_says(name: str, channels: int, feature_dim: int, mega_macs: float) -> None:
    module, dim = build_backbone(name, channels)
    image = torch.zeros(2, channels, 28, 28)
    assert module(image).shape == (2, feature_dim)
    assert dim == feature_dim
    assert round(flops_per_item(module, (image,)) / 2e6, 1) == mega_macs


@pytest.mark.parametrize(
    ("name", "feature_dim"),
    [
        ("resnet18", 512),
        ("resnet50", 2048),
        ("mobilenet_v2", 1280),
        ("mobilenet_v3_small", 576),
        ("mobilenet_v3_large", 960),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_backbones_give_their_features_for_grey_and_colour(
    name: str, feature_dim: int, channels: int
) -> None:
    module, dim = build_backbone(name, channels)
    with torch.inference_mode():
        assert module.eval()(torch.zeros(1, channels, 32, 32)).shape == (1, feature_dim)
    assert dim == feature_dim


@pytest.mark.parametrize(("name", "mega_macs"), [("resnet18", 1814), ("mobilenet_v2", 299), ("mobilenet_v3_small", 55)])
def test_torchvision_backbones_cost_what_the_table_says(name: str, mega_macs: int) -> None:
    """Published: 1.81, 0.30 and 0.06 G multiply-adds (torchvision's model table)."""
    module, _ = build_backbone(name, 3)
    assert round(flops_per_item(module, (torch.zeros(1, 3, 224, 224),)) / 2e6) == mega_macs


@pytest.mark.parametrize("name", ["resnet19", "small_cnn-0", "small_cnn-", "Small_cnn-4", ""])
def test_an_unknown_backbone_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SettingsError, match=r"small_cnn-<width>.*resnet18"):
        build_backbone(name, 3)


def test_an_image_of_the_right_size_only_changes_scale_and_layout() -> None:
    images = _noise(3, 12, 12, 1)
    prepared = Encoder(GREY).prepare(images)
    expected = (images.transpose(0, 3, 1, 2) / 255 - 0.25) / 0.5
    np.testing.assert_allclose(prepared.numpy(), expected, atol=1e-5)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour_by_repetition() -> None:
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert unit_images(red, size=4, channels=1).flatten().tolist() == pytest.approx([0.299] * 16)
    grey = _noise(2, 4, 4, 1)
    colour = unit_images(grey, size=4, channels=3)
    for channel in range(3):
        np.testing.assert_allclose(colour[:, channel].numpy(), grey[..., 0] / 255, atol=1e-6)


def test_a_transparent_pixel_is_white() -> None:
    pixels = np.zeros((1, 1, 2, 4), np.uint8)
    pixels[0, 0, 1, 3] = 255  # black: left one transparent, right one opaque
    assert unit_images(pixels, size=1, channels=3).flatten().tolist() in ([0.0] * 3, [0.5] * 3, [1.0] * 3)
    image = unit_images(np.repeat(pixels, 2, axis=1), size=2, channels=1)[0, 0]
    assert image[0].tolist() == pytest.approx([1.0, 0.0])


def test_unequal_sizes_keep_their_aspect_and_are_cropped_in_the_centre() -> None:
    wide = np.zeros((8, 24, 1), np.uint8)
    wide[:, 8:16] = 255  # the middle third is the centre square
    square = np.full((16, 16, 1), 255, np.uint8)
    batch = unit_images([wide, square], size=8, channels=1)
    assert batch.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(batch.numpy(), 1.0, atol=1e-6)


def test_a_batch_and_a_list_of_the_same_images_agree() -> None:
    images = _noise(4, 20, 15, 3)
    torch.testing.assert_close(
        unit_images(images, size=12, channels=1), unit_images(list(images), size=12, channels=1), atol=1e-6, rtol=0
    )


def test_grey_images_without_a_channel_axis_are_taken() -> None:
    images = _noise(2, 12, 12)
    torch.testing.assert_close(
        unit_images(images, size=12, channels=1), unit_images(images[..., None], size=12, channels=1)
    )
    assert unit_images([images[0]], size=12, channels=1).shape == (1, 1, 12, 12)
    assert unit_images([], size=12, channels=1).shape == (0, 1, 12, 12)


@pytest.mark.parametrize("image", [_noise(4, 4, 2), np.zeros((4, 4, 1), np.float32), np.zeros((0, 4, 1), np.uint8)])
def test_what_is_no_image_is_refused_by_its_position(image: np.ndarray) -> None:
    with pytest.raises(DataError, match="image 1"):
        unit_images([_noise(4, 4, 1), image], size=4, channels=1)


@pytest.mark.parametrize("normalized", [True, False])
def test_embeddings_are_unit_length_only_where_normalized(normalized: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(
        EncoderArchitecture(backbone="small_cnn-4", dimension=8, channels_in=3, image_size=12, normalized=normalized)
    ).eval()
    embeddings = encoder(encoder.prepare(_noise(5, 12, 12, 3)))
    assert embeddings.shape == (5, 8)
    assert bool(torch.allclose(embeddings.norm(dim=1), torch.ones(5), atol=1e-5)) is normalized


@pytest.mark.parametrize("changes", [{"mean": (0.5, 0.5)}, {"std": (0.0,)}, {"channels_in": 2}, {"dimension": 0}])
def test_an_architecture_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    settings: dict[str, object] = {
        "backbone": "small_cnn-4",
        "dimension": 8,
        "channels_in": 1,
        "image_size": 12,
        "mean": (0.5,),
        "std": (0.5,),
    }
    with pytest.raises(SettingsError):
        EncoderArchitecture(**(settings | changes))  # type: ignore[arg-type]
