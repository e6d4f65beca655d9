"""Augmentation: seeds repeat, options do what they say, every image has its own draws."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fct_ray.errors import SettingsError
from fct_ray.models.augmentation import LIGHT, SIMCLR, AugmentSettings, augmented, two_views
from fct_ray.models.seeding import generator


def _images(rows: int = 16, channels: int = 1, side: int = 14) -> torch.Tensor:
    return torch.rand(rows, channels, side, side, generator=generator(9))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [SIMCLR, LIGHT, dataclasses.replace(SIMCLR, blur_probability=0.5)])
def test_a_seed_repeats_its_views_and_two_views_differ(channels: int, settings: AugmentSettings) -> None:
    images = _images(channels=channels)
    untouched = images.clone()
    first, second = two_views(images, settings, generator(1))
    again, _ = two_views(images, settings, generator(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(images, untouched)
    assert first.shape == images.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_nothing_switched_on_changes_nothing() -> None:
    images = _images()
    assert torch.equal(augmented(images, AugmentSettings(), generator(0)), images)


def test_equal_images_of_a_batch_get_different_views() -> None:
    views = augmented(_images(1).expand(8, -1, -1, -1), dataclasses.replace(SIMCLR, flip=False), generator(0))
    assert len(torch.unique(views.flatten(1), dim=0)) == 8


def test_flip_alone_mirrors_about_half_of_the_images_and_leaves_the_rest() -> None:
    images = _images(200)
    views = augmented(images, AugmentSettings(flip=True), generator(0))
    kept = torch.isclose(views, images, atol=1e-5).flatten(1).all(dim=1)
    mirrored = torch.isclose(views, images.flip(3), atol=1e-5).flatten(1).all(dim=1)
    assert bool((kept ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def test_without_flip_no_view_is_a_mirror_image() -> None:
    """Glyphs: a column that is brightest on the left stays there, however it is cropped."""
    ramp = torch.linspace(1, 0, 20).expand(64, 1, 20, 20).contiguous()
    settings = AugmentSettings(crop_scale=(0.2, 1.0), aspect=4 / 3, rotation_degrees=15)
    views = augmented(ramp, settings, generator(0))
    assert bool((views[..., :5].mean(dim=(1, 2, 3)) > views[..., -5:].mean(dim=(1, 2, 3))).all())


def test_a_fixed_crop_without_stretch_keeps_that_share_of_the_area() -> None:
    """A crop of a quarter of the area spans half of a linear ramp, whatever its place."""
    ramp = torch.linspace(0, 1, 64).expand(32, 1, 64, 64).contiguous()
    views = augmented(ramp, AugmentSettings(crop_scale=(0.25, 0.25)), generator(0))
    spans = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    torch.testing.assert_close(spans, torch.full((32,), 0.5), atol=0.01, rtol=0)
    assert float(views[:, 0, 0, 0].std()) > 0.1  # the places differ


def test_a_half_turn_is_what_rotation_means() -> None:
    images = _images(400)
    views = augmented(images, AugmentSettings(rotation_degrees=180), generator(0))
    angle_share = torch.rand(400, 12, generator=generator(0))[:, 4]
    position = int((angle_share - 0.5).abs().argmin())
    assert float((views[position] - images[position]).abs().mean()) < 0.1
    position = int(angle_share.argmax())
    half_turned = images[position].flip(1, 2)
    assert float((views[position] - half_turned).abs().mean()) < 0.1


def test_brightness_scales_the_mean_and_contrast_keeps_it() -> None:
    images = 0.4 + 0.1 * _images(50)
    means = images.mean(dim=(1, 2, 3))
    brighter = augmented(images, AugmentSettings(brightness=0.3), generator(0)).mean(dim=(1, 2, 3)) / means
    assert float(brighter.min()) >= 0.7 - 1e-5
    assert float(brighter.max()) <= 1.3 + 1e-5
    assert float(brighter.std()) > 0.1
    contrasted = augmented(images, AugmentSettings(contrast=0.3), generator(0))
    torch.testing.assert_close(contrasted.mean(dim=(1, 2, 3)), means)
    ratio = contrasted.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.7 - 1e-5 <= float(ratio.min()) < float(ratio.max()) <= 1.3 + 1e-5


def test_colour_changes_keep_luma_and_greying_makes_the_channels_equal() -> None:
    images = 0.4 + 0.1 * _images(50, channels=3)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    turned = augmented(images, AugmentSettings(saturation=0.4, hue=0.6), generator(0))
    torch.testing.assert_close((turned * luma).sum(dim=1), (images * luma).sum(dim=1), atol=1e-4, rtol=0)
    assert float((turned - images).abs().max()) > 0.01
    grey = augmented(images, AugmentSettings(grey_probability=1.0), generator(0))
    torch.testing.assert_close(grey, (images * luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-4, rtol=0)


def test_blur_is_a_mean_of_three_by_three() -> None:
    dot = torch.zeros(1, 1, 7, 7)
    dot[0, 0, 3, 3] = 0.9
    blurred = augmented(dot, AugmentSettings(blur_probability=1.0), generator(0))
    assert blurred[0, 0, 2:5, 2:5].flatten().tolist() == pytest.approx([0.1] * 9)
    assert float(blurred.sum()) == pytest.approx(0.9)


def test_bytes_are_taken_as_unit_images() -> None:
    pixels = (_images() * 255).round().to(torch.uint8)
    torch.testing.assert_close(
        augmented(pixels, SIMCLR, generator(0)), augmented(pixels.float() / 255, SIMCLR, generator(0))
    )


def test_a_crop_that_is_no_share_is_refused() -> None:
    with pytest.raises(SettingsError, match="crop_scale"):
        AugmentSettings(crop_scale=(0.0, 1.0))
