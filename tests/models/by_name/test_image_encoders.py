"""Networks of timm, torchvision and open_clip by name: real weights where a package brings them, and what goes wrong."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.batch_encoder import BatchEncoder, encode_metered
from fct_ray.models.by_name.registry import kind_of, open_named, with_absolute_paths
from fct_ray.shards.encoder_names import resolve_encoder
from tests.models.by_name.packaged_models import efficientnet_weights, timm_checkpoint
from tests.sources.image_files import picture

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return timm_checkpoint(tmp_path_factory.mktemp("weights") / "lite0.pth")


def test_real_weights_through_timm_give_the_features_of_the_library_that_made_them(checkpoint: Path) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    encoder = open_named(f"timm:tf_efficientnet_lite0?weights={checkpoint}&batch=2")
    rng = np.random.default_rng(0)
    images = [np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((64, 64, 1))).astype(np.uint8) for _ in range(3)]
    seen, usage = encode_metered(encoder, {"image": images})
    own = EfficientNet.from_name("efficientnet-lite0", num_classes=1000)
    own.load_state_dict(efficientnet_weights())
    own.eval()
    settings = encoder.prepare  # type: ignore[attr-defined]
    with torch.inference_mode():
        batch = torch.stack([settings(Image.fromarray(image)) for image in images])
        features = own.extract_features(batch).mean(dim=(2, 3)).numpy()
    wanted = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(seen, wanted, atol=2e-4)
    assert (encoder.dimension, encoder.metric, encoder.normalized) == (1280, Metric.IP, True)
    assert usage.flops / 3 == pytest.approx(2 * 385e6, rel=0.1), "385 M multiply-adds at 224 pixels"


def test_the_fingerprint_is_of_weights_and_preprocessing_not_of_places(checkpoint: Path, tmp_path: Path) -> None:
    spec = "timm:tf_efficientnet_lite0?weights="
    moved, other = tmp_path / "moved.pth", tmp_path / "other.pth"
    weights = torch.load(checkpoint, weights_only=True)
    torch.save(weights, moved)
    weights["conv_stem.weight"][0, 0, 0, 0] += 1e-3
    torch.save(weights, other)
    first = open_named(f"{spec}{checkpoint}").fingerprint
    assert open_named(f"{spec}{moved}&batch=7").fingerprint == first
    assert open_named(f"{spec}{other}").fingerprint != first


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("torchvision") / "small.pth"
    torch.save(models.mobilenet_v3_small(weights=None).state_dict(), path)
    return path


def test_a_network_of_torchvision_gives_what_its_classifier_reads(torchvision_file: Path) -> None:
    encoder = open_named(f"torchvision:mobilenet_v3_small?weights={torchvision_file}")
    assert encoder.dimension == 1024
    pixels = picture(256, 256)
    seen = encoder.encode({"image": np.stack([pixels, 255 - pixels])})
    network = models.mobilenet_v3_small(weights=None).eval()
    network.load_state_dict(torch.load(torchvision_file, weights_only=True))
    middle = pixels[16:240, 16:240] / 255.0  # scaled to 256, its middle 224 pixels
    batch = torch.tensor(((middle - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.inference_mode():
        inner = network.avgpool(network.features(batch)).flatten(1)
        features = network.classifier[2](network.classifier[1](network.classifier[0](inner)))[0].numpy()
    np.testing.assert_allclose(seen[0], features / np.linalg.norm(features), atol=1e-4)
    assert np.linalg.norm(seen, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_grey_and_clear_pixels_are_taken_too(torchvision_file: Path) -> None:
    encoder = open_named(f"torchvision:mobilenet_v3_small?weights={torchvision_file}")
    white, grey = np.full((20, 20, 3), 255, np.uint8), np.full((20, 20, 1), 90, np.uint8)
    clear = np.zeros((20, 20, 4), np.uint8)
    seen = encoder.encode({"image": [white, clear, grey, np.repeat(grey, 3, axis=2)]})
    np.testing.assert_allclose(seen[[0, 2]], seen[[1, 3]], atol=1e-5)
    assert encoder.encode({"image": []}).shape == (0, 1024)


def test_clip_puts_texts_and_photos_into_one_space(tmp_path: Path) -> None:
    """Its weights are random here: no package brings CLIP's. What is checked is the joining."""
    import open_clip

    torch.manual_seed(0)
    name = "RN50-quickgelu"
    model = open_clip.create_model(name, pretrained=None).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    encoder = open_named(f"open-clip:{name}?weights={tmp_path / 'clip.pt'}")
    texts = encoder.encode({"text": ["a photo of a cat", "a photo of a dog"]})
    photos = encoder.encode({"image": [picture()]})
    assert texts.shape == (2, encoder.dimension)
    assert photos.shape == (1, encoder.dimension)
    with torch.inference_mode():
        wanted = model.encode_text(open_clip.get_tokenizer(name)(["a photo of a dog"]), normalize=True).numpy()
    np.testing.assert_allclose(texts[1], wanted[0], atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("timm:resnet_fifty", "timm has no network 'resnet_fifty'"),
        ("timm:resnet50?weights=nowhere.pth", "there is no file nowhere.pth"),
        ("torchvision:resnet51", r"no network 'resnet51'; near it: resnet\d+"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no network"),
        ("torchvision:resnet50?weights=V9", "neither a file nor of torchvision, which has IMAGENET1K_V1"),
        ("torchvision:squeezenet1_0?weights={any}", "has no weights of that network|no linear layer"),
        ("open-clip:ViT-B-32", r"no weights are named; want ViT-B-32\?weights=TAG, TAG one of .*laion"),
        ("open-clip:ViT-B-33", "no model 'ViT-B-33'; near it: ViT-B"),
        ("timm:resnet50?wieghts=x", "unknown option 'wieghts'; timm knows weights, batch"),
        ("timm:resnet50?batch=0", "want a whole number of at least 1|cannot be reached"),
    ],
)
def test_what_cannot_work_is_one_sentence(spec: str, said: str, torchvision_file: Path) -> None:
    with pytest.raises((SettingsError, ModelError), match=said):
        open_named(spec.replace("{any}", str(torchvision_file)))


@pytest.mark.parametrize(
    "spec",
    [
        "timm:resnet18.a1_in1k",
        "torchvision:resnet18",
        "open-clip:ViT-B-32?weights=laion2b_s34b_b79k",
        "sentence-transformers:no-such-organisation/no-such-model",
    ],
)
def test_without_a_network_a_download_is_refused_at_once(
    spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy that nobody runs is the network of a machine that has none."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    open_named.cache_clear()
    start_s = time.monotonic()
    with pytest.raises(
        ModelError, match=r"weights are not on this machine, and https://.* cannot be reached"
    ) as refusal:
        open_named(spec)
    assert "\n" not in str(refusal.value)
    assert time.monotonic() - start_s < 60, "most of it is the import of a library"


def test_names_of_other_kinds_stay_what_they_were() -> None:
    for name in ("api-v1", "my_encoders:photos", "openai:text-embedding-3-small", "s3://bucket/models/old", "timm:"):
        assert kind_of(name) is None
    assert kind_of("openai:text-embedding-3-small@https://api.openai.com/v1") == "openai"
    assert kind_of("openai:@cf/baai/bge-base-en-v1.5@https://host/v1") == "openai"


def test_the_same_name_is_opened_once(torchvision_file: Path) -> None:
    spec = f"torchvision:mobilenet_v3_small?weights={torchvision_file}"
    encoder: BatchEncoder = open_named(spec)
    assert open_named(spec) is encoder


def test_a_relative_path_reaches_workers_as_an_absolute_one(
    torchvision_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(torchvision_file.parent)
    spec = f"torchvision:mobilenet_v3_small?weights={torchvision_file.name}&batch=3"
    choice = resolve_encoder(spec, None)
    assert choice.ref.name == spec
    assert choice.uri == f"torchvision:mobilenet_v3_small?weights={torchvision_file}&batch=3"
    monkeypatch.chdir(tmp_path)
    assert open_named(str(choice.uri)).fingerprint == choice.ref.fingerprint
    assert with_absolute_paths("openai:m@http://host/v1?key=A&batch=2") == "openai:m@http://host/v1?key=A&batch=2"
