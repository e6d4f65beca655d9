"""Model files: model.json and weights.safetensors, as bytes in both directions.

Owns: from a module to its files and back, with every check on the way. Knows no storage: whoever calls brings and takes
the bytes. Nothing in a file is executed: the weights are plain tensors, the JSON names an architecture of ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.architectures import (
    AnyTransformationArchitecture,
    output_dimension,
    read_architecture,
    read_transformation_architecture,
)
from fct_ray.models.encoder import Encoder, EncoderArchitecture
from fct_ray.models.model_json import NOT_IN_NAMES, ModelDocument, ModelKind, fingerprint_of, parse_document, plain_json
from fct_ray.models.transformation import AnyTransformation, build_transformation

AnyArchitecture = EncoderArchitecture | AnyTransformationArchitecture
AnyModel = Encoder | AnyTransformation


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedModel:
    """A model as bytes, ready for `<models>/<directory_name>/model.json` and `.../weights.safetensors`."""

    document: ModelDocument
    weights: bytes
    true_vectors: bytes | None = None
    """The file of true vectors beside it, if there is one."""

    @property
    def model_json(self) -> bytes:
        """The bytes of its document."""
        return self.document.to_json()

    @property
    def directory_name(self) -> str:
        """How its directory is called."""
        return f"{self.document.name}-{self.document.fingerprint[:12]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model from its files, in eval mode, and what its files say about it."""

    document: ModelDocument
    module: AnyModel

    def encoder(self) -> Encoder:
        """The module as an encoder; raises ModelError if it is a transformation."""
        if not isinstance(self.module, Encoder):
            raise ModelError(f"{self.document.name!r} is a transformation; wanted an encoder or side model")
        return self.module

    def transformation(self) -> AnyTransformation:
        """The module as a transformation; raises ModelError if it is an encoder."""
        if isinstance(self.module, Encoder):
            raise ModelError(f"{self.document.name!r} is an {self.document.kind} model; wanted a transformation")
        return self.module


def pack_model(
    module: AnyModel,
    *,
    kind: ModelKind,
    name: str,
    provenance: dict[str, Any],
    metric: Metric = Metric.IP,
    from_encoder: str | None = None,
    to_encoder: str | None = None,
    side_fingerprint: str | None = None,
) -> PackedModel:
    """The files of a model; the same weights, architecture and direction always give the same fingerprint.

    `provenance` must be JSON. `metric` is how the model's embeddings are compared.

    Raises: SettingsError if `kind`, module and direction do not fit together, or the name is not a plain one;
    ModelError for weights that are not finite, or an exported transformation.
    """
    _check_kind(module, kind, from_encoder, to_encoder, side_fingerprint)
    if not name or NOT_IN_NAMES.search(name):
        raise SettingsError(f"model name {name!r} cannot be part of a directory name; wanted letters, digits, - and _")
    tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    _check_tensors(tensors, _shapes(_built(module.architecture, name)), f"model {name!r}")
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"weights {key!r} of {name!r} are not finite; the fit diverged: lower its learning rate")
    weights = save_tensors(tensors)
    document = ModelDocument(
        kind=kind,
        name=name,
        architecture=plain_json(asdict(module.architecture)),
        dimension=output_dimension(module.architecture),
        metric=metric,
        normalized=module.architecture.normalized,
        provenance=plain_json(provenance),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        fingerprint="",
        from_encoder=from_encoder,
        to_encoder=to_encoder,
        side_fingerprint=side_fingerprint,
    )
    return PackedModel(document=replace(document, fingerprint=fingerprint_of(document)), weights=weights)


def with_true_vectors(packed: PackedModel, true_vectors: bytes | None) -> PackedModel:
    """The same model with this file of true vectors beside it, or none: another model, with a fingerprint of its own."""
    sha256 = None if true_vectors is None else hashlib.sha256(true_vectors).hexdigest()
    document = replace(packed.document, true_vectors_sha256=sha256)
    named = replace(document, fingerprint=fingerprint_of(document))
    return PackedModel(document=named, weights=packed.weights, true_vectors=true_vectors)


def check_packed(packed: PackedModel, uri: str) -> PackedModel:
    """The same, if its files have the hashes that its document names; `uri` is only for messages. Raises: ModelError."""
    document = packed.document
    for name, data, wanted in (
        ("weights.safetensors", packed.weights, document.weights_sha256),
        ("true_vectors.parquet", packed.true_vectors, document.true_vectors_sha256),
    ):
        if data is not None and hashlib.sha256(data).hexdigest() != wanted:
            raise ModelError(f"{uri}: {name} is not what model.json names (sha256); copy the directory again")
    return packed


def unpack_model(model_json: bytes, weights: bytes, uri: str) -> LoadedModel:
    """The model in its files' bytes, in eval mode on the CPU; `uri` is only for messages.

    Raises: ModelError if the document is not one, hashes do not match, the architecture is unknown, or tensors
    are missing, superfluous or of another shape.
    """
    document = parse_document(model_json, uri)
    if hashlib.sha256(weights).hexdigest() != document.weights_sha256:
        raise ModelError(f"{uri}: the weights are not those that model.json names (sha256); copy the directory again")
    architecture = _architecture(document, uri)
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ModelError(f"{uri}: weights.safetensors cannot be read ({error}); copy the directory again") from error
    with torch.device("meta"):  # shapes without memory: a document may claim any dimension
        shapes = _shapes(_built(architecture, uri))
    _check_tensors(tensors, shapes, uri)
    module = _built(architecture, uri)
    module.load_state_dict(tensors)
    return LoadedModel(document=document, module=module.eval())


def _architecture(document: ModelDocument, uri: str) -> AnyArchitecture:
    if document.kind == "transformation":
        return read_transformation_architecture(document, uri)
    return read_architecture(document, EncoderArchitecture, uri)


def _built(architecture: AnyArchitecture, what: str) -> AnyModel:
    """A module of random weights that leaves torch's seeds as they were: loading must not change a fit."""
    with torch.random.fork_rng(devices=[]):
        if not isinstance(architecture, EncoderArchitecture):
            return build_transformation(architecture)
        try:
            return Encoder(architecture)
        except SettingsError as error:
            raise ModelError(f"{what}: unknown architecture: {error}; use a matching release") from error


def _check_kind(module: AnyModel, kind: ModelKind, *direction: str | None) -> None:
    from_encoder, to_encoder, side_fingerprint = direction
    if isinstance(module, Encoder) != (kind in ("encoder", "side")):
        raise SettingsError(f"a {type(module).__name__} cannot be packed as {kind!r}")
    if isinstance(module, Encoder):
        if any(direction):
            raise SettingsError(f"{kind!r} has no direction; leave from_encoder, to_encoder and side_fingerprint out")
        return
    if not from_encoder or not to_encoder:
        raise SettingsError("a transformation needs the fingerprints from_encoder and to_encoder of its direction")
    if bool(side_fingerprint) != (module.architecture.side_dimension > 0):
        raise SettingsError(
            f"side_fingerprint is {side_fingerprint!r} and side_dimension {module.architecture.side_dimension}; "
            "wanted both or neither"
        )


def _check_tensors(tensors: dict[str, Tensor], expected: dict[str, torch.Size], what: str) -> None:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise ModelError(f"{what}: tensors missing: {missing[:5]}, superfluous: {extra[:5]}; pack the original model")
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            raise ModelError(f"{what}: tensor {key!r} has shape {list(tensors[key].shape)}; wanted {list(shape)}")


def _shapes(module: AnyModel) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}
