"""Model files: what comes out went in, and whatever was changed on the way is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.model_files import AnyModel, PackedModel, pack_model, unpack_model
from fct_ray.models.transformation import (
    TransformationArchitecture,
    TransformationKind,
    build_transformation,
    export,
)


def _encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    architecture = EncoderArchitecture(
        backbone="small_cnn-4", dimension=8, channels_in=1, image_size=12, mean=(0.3,), std=(0.4,)
    )
    return Encoder(architecture).eval()


def _h(kind: TransformationKind = "mlp") -> AnyModel:
    torch.manual_seed(0)
    return build_transformation(
        TransformationArchitecture(kind=kind, old_dimension=4, side_dimension=3, new_dimension=5, inner=8)
    ).eval()


def _packed(module: AnyModel | None = None, **changes: Any) -> PackedModel:
    settings: dict[str, Any] = {"kind": "encoder", "name": "new", "provenance": {"seed": 7}}
    if module is not None and not isinstance(module, Encoder):
        settings |= {"kind": "transformation", "from_encoder": "a", "to_encoder": "b", "side_fingerprint": "c"}
    return pack_model(_encoder() if module is None else module, **(settings | changes))


def test_an_encoder_comes_back_with_its_outputs_and_document() -> None:
    packed = _packed()
    loaded = unpack_model(packed.model_json, packed.weights, "s3://b/m")
    images = torch.randn(3, 1, 12, 12)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(images), _encoder()(images))
    assert loaded.document == packed.document
    assert not loaded.module.training
    assert (loaded.document.dimension, loaded.document.metric, loaded.document.normalized) == (8, Metric.IP, True)
    assert packed.directory_name == f"new-{packed.document.fingerprint[:12]}"


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_transformation_comes_back_with_its_direction(kind: TransformationKind) -> None:
    module = _h(kind)
    packed = _packed(module)
    loaded = unpack_model(packed.model_json, packed.weights, "m")
    inputs = torch.randn(6, 4), torch.randn(6, 3)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(*inputs), module(*inputs))
    document = loaded.document
    assert (document.from_encoder, document.to_encoder, document.side_fingerprint) == ("a", "b", "c")
    assert document.dimension == 5


def test_the_same_model_is_the_same_bytes_and_the_fingerprint_ignores_name_and_provenance() -> None:
    first, second = _packed(), _packed()
    assert (first.model_json, first.weights) == (second.model_json, second.weights)
    renamed = _packed(name="other", provenance={"seed": 8})
    assert renamed.document.fingerprint == first.document.fingerprint


def test_the_fingerprint_changes_with_everything_that_changes_embeddings_or_direction() -> None:
    transformation = _h()
    packs = [
        _packed(),
        _packed(_encoder(1)),
        _packed(kind="side"),
        _packed(metric=Metric.L2),
        _packed(transformation),
        _packed(transformation, from_encoder="x"),
        _packed(transformation, to_encoder="x"),
        _packed(transformation, side_fingerprint="x"),
    ]
    assert len({packed.document.fingerprint for packed in packs}) == len(packs)


def test_the_fingerprint_is_a_plain_hash_that_anyone_can_recompute() -> None:
    packed = _packed(_h())
    document = json.loads(packed.model_json)
    parts = [document[name] for name in ("kind", "architecture", "metric", "normalized")]
    parts += [hashlib.sha256(packed.weights).hexdigest(), "a", "b", "c"]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert document["fingerprint"] == hashlib.sha256(text.encode()).hexdigest()


def test_loading_a_model_leaves_the_seeds_of_a_fit_alone() -> None:
    packed = _packed()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    unpack_model(packed.model_json, packed.weights, "m")
    assert torch.equal(torch.rand(2), expected)


def test_weights_of_another_model_are_refused() -> None:
    packed, other = _packed(), _packed(_encoder(1))
    with pytest.raises(ModelError, match=r"s3://b/m.*sha256"):
        unpack_model(packed.model_json, other.weights, "s3://b/m")


def _refingerprinted(packed: PackedModel, weights: bytes, **changes: Any) -> bytes:
    """model.json as a careless tool would write it: changed, with hashes that fit."""
    document = json.loads(packed.model_json) | {"weights_sha256": hashlib.sha256(weights).hexdigest()} | changes
    parts = [document[name] for name in ("kind", "architecture", "metric", "normalized", "weights_sha256")]
    if document["kind"] == "transformation":
        parts += [document[name] for name in ("from_encoder", "to_encoder", "side_fingerprint")]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return json.dumps(document | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()}).encode()


def _without_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key != "head.bias"}


def _with_more(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"more": torch.zeros(1)}


def _reshaped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"head.bias": torch.zeros(9)}


@pytest.mark.parametrize(
    ("change", "said"), [(_without_head, r"missing: \['head.bias'\]"), (_with_more, "more"), (_reshaped, r"\[9\]")]
)
def test_missing_superfluous_and_misshapen_tensors_are_refused(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], said: str
) -> None:
    packed = _packed()
    weights = save(change(load(packed.weights)))
    with pytest.raises(ModelError, match=said):
        unpack_model(_refingerprinted(packed, weights), weights, "m")


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "os.system"},
        {"dimension": "8"},
        {"dimension": -1},
        {"surprise": 1},
        {"mean": ["a"]},
        {"mean": [0.1, 0.2]},
    ],
)
def test_an_unknown_architecture_is_refused(change: dict[str, Any]) -> None:
    packed = _packed()
    architecture = json.loads(packed.model_json)["architecture"] | change
    with pytest.raises(ModelError, match=r"m: .*architecture"):
        unpack_model(_refingerprinted(packed, packed.weights, architecture=architecture), packed.weights, "m")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "cosine"}, "metric"),
        ({"format_version": 2}, "format_version 2"),
        ({"extra": 1}, "extra"),
        ({"dimension": 9}, "contradicts"),
        ({"normalized": False}, "fingerprint"),
        ({"kind": "pickle"}, "kind"),
    ],
)
def test_an_edited_document_is_refused(change: dict[str, Any], said: str) -> None:
    packed = _packed()
    edited = json.dumps(json.loads(packed.model_json) | change).encode()
    with pytest.raises(ModelError, match=said):
        unpack_model(edited, packed.weights, "m")


@pytest.mark.parametrize("model_json", [b"", b"[]", b"{}", b"\xff"])
def test_what_is_no_document_is_refused(model_json: bytes) -> None:
    with pytest.raises(ModelError, match=r"m: model\.json is not a model document"):
        unpack_model(model_json, b"", "m")


def test_bytes_that_are_no_safetensors_are_refused() -> None:
    packed = _packed()
    with pytest.raises(ModelError, match="cannot be read"):
        unpack_model(_refingerprinted(packed, b"cos\nsystem\n"), b"cos\nsystem\n", "m")


def test_packing_refuses_what_does_not_fit_together() -> None:
    transformation = _h()
    for module, changes in (
        (None, {"kind": "transformation", "from_encoder": "a", "to_encoder": "b"}),
        (None, {"from_encoder": "a"}),
        (transformation, {"kind": "encoder"}),
        (transformation, {"to_encoder": None}),
        (transformation, {"side_fingerprint": None}),
        (None, {"name": "../new"}),
        (None, {"provenance": {"when": object()}}),
    ):
        with pytest.raises(SettingsError):
            _packed(module, **changes)


def test_packing_refuses_an_exported_transformation_and_a_diverged_one() -> None:
    transformation = _h()
    assert not isinstance(transformation, Encoder)
    with pytest.raises(ModelError, match="missing"):
        _packed(export(transformation))
    with torch.no_grad():
        next(transformation.parameters())[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        _packed(transformation)


def test_a_loaded_model_is_taken_as_what_it_is_and_refused_as_what_it_is_not() -> None:
    packs = _packed(), _packed(_h())
    encoder, transformation = (unpack_model(packed.model_json, packed.weights, "m") for packed in packs)
    assert encoder.encoder() is encoder.module
    assert transformation.transformation() is transformation.module
    with pytest.raises(ModelError, match="wanted a transformation"):
        encoder.transformation()
    with pytest.raises(ModelError, match="wanted an encoder"):
        transformation.encoder()


def test_documents_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _packed().document.name = "x"  # type: ignore[misc]
