"""Models at URIs: joins the models' bytes (models/) with the places where they lie (storage/).

Owns: the two file names of a model directory, and what an encoder's name on the command line means.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from fct_ray.errors import FormatError, ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder, ModuleEncoder, check_encoder, load_factory
from fct_ray.models.files import LoadedModel, PackedModel, unpack_model
from fct_ray.storage import objects, paths
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef

MODEL_JSON, WEIGHTS = "model.json", "weights.safetensors"
EncoderSpec = str | BatchEncoder
"""Where an encoder is (a model directory or `package.module:factory`), or the encoder itself; it is sent to workers."""
IMPORT_PATH = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def save_model(models_uri: str, packed: PackedModel) -> str:
    """Write `<models_uri>/<name>-<hash12>/` and return its URI; the same model again is the same directory."""
    uri = objects.join(models_uri, packed.directory_name)
    objects.write_bytes(objects.join(uri, WEIGHTS), packed.weights)
    objects.write_bytes(objects.join(uri, MODEL_JSON), packed.model_json)
    return uri


def load_model(uri: str) -> LoadedModel:
    """The model in a directory; raises ModelError if it is damaged, NotFoundError if it is not there."""
    model_json = objects.read_bytes(objects.join(uri, MODEL_JSON))
    return unpack_model(model_json, objects.read_bytes(objects.join(uri, WEIGHTS)), uri)


def check_model_uris(uris: Iterable[str], directories: Iterable[str | None], document_uri: str) -> None:
    """Refuse a document of the store that names models outside of `directories`: the store, or where settings point.

    Raises:
        FormatError: names the document and the location.
    """
    allowed = [objects.absolute(directory) for directory in directories if directory is not None]
    for uri in map(objects.absolute, uris):
        if not any(uri == directory or paths.is_below(uri, directory) for directory in allowed):
            raise FormatError(
                f"{document_uri}: names a model at {uri!r:.300}; wanted one below {' or '.join(allowed)}. Was the store "
                "moved, or the document edited? Delete the document and run again: the model is then fitted anew"
            )


def is_model_uri(name: EncoderSpec) -> TypeGuard[str]:
    """Whether an encoder's name is the location of a model directory."""
    return isinstance(name, str) and objects.exists(objects.join(name, MODEL_JSON))


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderChoice:
    """What an encoder's name meant: its identity, and what embeds."""

    ref: EncoderRef
    uri: EncoderSpec | None
    """Where its code and weights are, or the encoder itself. None: only its vectors exist."""


def resolve_encoder(name: EncoderSpec, store: Store | None) -> EncoderChoice:
    """Resolve an encoder, a model directory, `package.module:factory`, the name of a model in the store, or a bare name.

    A bare name stands for an encoder that is not here (an API, say): its fingerprint is a hash of the name, so put
    the provider's model version into it.

    Raises:
        SettingsError: the name is empty, or several models of the store have it.
    """
    if not isinstance(name, str):
        check_encoder(name)
        return EncoderChoice(ref=EncoderRef(name=name.name, fingerprint=name.fingerprint), uri=name)
    if not name.strip():
        raise SettingsError("encoder name is empty; give a model directory, package.module:factory, or a name")
    if is_model_uri(name):
        document = load_model(name).document
        return EncoderChoice(ref=EncoderRef(name=document.name, fingerprint=document.fingerprint), uri=name)
    if IMPORT_PATH.match(name):
        encoder = load_factory(name)
        return EncoderChoice(ref=EncoderRef(name=encoder.name, fingerprint=encoder.fingerprint), uri=name)
    known = _models_named(name, store) if store is not None else []
    if len(known) > 1:
        raise SettingsError(f"encoder {name!r}: {len(known)} models of the store have that name; give one of {known}")
    if known:
        return resolve_encoder(known[0], None)
    fingerprint = hashlib.sha256(f"name:{name}".encode()).hexdigest()
    return EncoderChoice(ref=EncoderRef(name=name, fingerprint=fingerprint), uri=None)


def _models_named(name: str, store: Store) -> list[str]:
    return [
        uri for uri in store.model_uris() if re.sub(r"-[0-9a-f]{12}$", "", uri.rstrip("/").rsplit("/", 1)[-1]) == name
    ]


def open_encoder(uri: EncoderSpec) -> BatchEncoder:
    """A ready encoder from a model directory or an import path; one that is ready already is returned as it is."""
    if not isinstance(uri, str):
        return uri
    if IMPORT_PATH.match(uri) and not is_model_uri(uri):
        return load_factory(uri)
    loaded = load_model(uri)
    if loaded.document.kind == "transformation":
        raise ModelError(f"{uri} is a transformation; want an encoder: give the directory of an encoder")
    return ModuleEncoder(loaded)


def model_uri(name: EncoderSpec, store: Store) -> EncoderSpec:
    """Where the model with this name is, for one that must embed raw items. Raises SettingsError if it is only a name."""
    choice = resolve_encoder(name, store)
    if choice.uri is None:
        raise SettingsError(
            f"{name!r} is neither a model directory, nor package.module:factory, nor a model of the store; want a model "
            "that can embed raw items: fit one (jobs/fit.py), or adopt existing embeddings (jobs/embed.py adopt)"
        )
    return choice.uri
