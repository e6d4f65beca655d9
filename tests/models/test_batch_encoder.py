"""Encoders in batches, and encoders from the user's own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fct_ray.errors import DataError, ModelError
from fct_ray.kinds import Metric
from fct_ray.models.batch_encoder import BatchEncoder, encode_metered, load_factory
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.model_files import LoadedModel, pack_model, unpack_model
from fct_ray.models.module_encoder import ModuleEncoder
from fct_ray.models.transformation import TransformationArchitecture, build_transformation
from tests.models.own_encoders import LengthEncoder

OWN = "tests.models.own_encoders"


def _loaded() -> LoadedModel:
    torch.manual_seed(0)
    architecture = EncoderArchitecture(
        backbone="small_cnn-4", dimension=8, channels_in=1, image_size=12, mean=(0.3,), std=(0.4,)
    )
    packed = pack_model(Encoder(architecture), kind="side", name="side", provenance={})
    return unpack_model(packed.model_json, packed.weights, "m")


def test_batches_of_any_size_give_the_embeddings_of_single_images() -> None:
    encoder: BatchEncoder = ModuleEncoder(_loaded(), batch_size=3, device="cpu")
    images = np.random.default_rng(0).integers(0, 256, size=(7, 12, 12, 1), dtype=np.uint8)
    together = encoder.encode({"image": images})
    single = np.concatenate([encoder.encode({"image": [image]}) for image in images])
    np.testing.assert_allclose(together, single, atol=1e-5)
    assert together.dtype == np.float32
    assert (encoder.name, encoder.dimension, encoder.metric, encoder.normalized) == ("side", 8, Metric.IP, True)
    assert encoder.fingerprint == _loaded().document.fingerprint


def test_no_images_give_no_embeddings() -> None:
    assert ModuleEncoder(_loaded()).encode({"image": []}).shape == (0, 8)


def test_flops_count_the_backbone_and_the_head_by_hand() -> None:
    """12x12 grey, widths 4 8 16 32 at sides 6 6 3 2, head 32 to 8; two per multiply-add."""
    convolutions = 9 * (1 * 4 * 36 + 4 * 8 * 36 + 8 * 16 * 9 + 16 * 32 * 4)
    assert ModuleEncoder(_loaded()).flops_per_item == 2 * (convolutions + 32 * 8)


def test_items_without_images_are_refused_with_the_columns_they_have() -> None:
    with pytest.raises(DataError, match=r"\['text'\].*'image'"):
        ModuleEncoder(_loaded()).encode({"text": ["a"]})


def test_a_transformation_is_no_encoder() -> None:
    h = build_transformation(TransformationArchitecture(old_dimension=2, new_dimension=2, inner=4))
    packed = pack_model(h, kind="transformation", name="h", provenance={}, from_encoder="a", to_encoder="b")
    with pytest.raises(ModelError, match="is a transformation"):
        ModuleEncoder(unpack_model(packed.model_json, packed.weights, "m"))


def test_the_users_own_encoder_comes_through_its_import_path() -> None:
    encoder = load_factory(f"{OWN}:length_encoder")
    assert isinstance(encoder, BatchEncoder)
    assert encoder.encode({"text": ["abc", ""]}).tolist() == [[3, 1], [0, 1]]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet18", "package.module:factory"),
        ("no_such_package:make", "PYTHONPATH"),
        (f"{OWN}:missing", "cannot be imported"),
        (f"{OWN}:NOT_CALLABLE", "wanted a function"),
        (f"{OWN}:without_fingerprint", "without 'fingerprint'"),
        (f"{OWN}:with_metric_as_text", "'metric'.*'l2'"),
    ],
)
def test_a_factory_that_breaks_the_protocol_is_refused_with_what_is_wrong(spec: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_factory(spec)


class OnDevice(LengthEncoder):
    """Says where it computes; its arithmetic runs anywhere."""

    flops_per_item = 5.0

    def __init__(self, device: object) -> None:
        self.device = device


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0)])
def test_the_time_of_an_encoder_on_a_gpu_is_gpu_time(device: object) -> None:
    """Seen: a full backfill on GPUs reported 0 GPU seconds, and so no saving."""
    embeddings, usage = encode_metered(OnDevice(device), {"text": ["a", "bcd"] * 500})
    assert embeddings[:2].tolist() == [[1, 1], [3, 1]]
    assert usage.busy_gpu_s > 0
    assert usage.flops == 5.0 * 1000


@pytest.mark.parametrize("encoder", [OnDevice("cpu"), OnDevice(torch.device("cpu")), LengthEncoder()])
def test_the_time_of_an_encoder_on_a_cpu_is_no_gpu_time(encoder: BatchEncoder) -> None:
    assert encode_metered(encoder, {"text": ["a"]})[1].busy_gpu_s == 0.0
