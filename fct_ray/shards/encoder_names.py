"""What the name of an encoder means: a model directory, an import path, a model of the store, or a name alone.

Owns: resolving a name to the encoder's identity, from model.json without its weights. Does not import torch, so that
searching does not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TypeGuard

from fct_ray.errors import SettingsError
from fct_ray.models.batch_encoder import BatchEncoder, check_encoder, load_factory
from fct_ray.models.model_json import ModelDocument, parse_document
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef

MODEL_JSON = "model.json"
EncoderSpec = str | BatchEncoder
"""Where an encoder is (a model directory or `package.module:factory`), or the encoder itself; it is sent to workers."""
IMPORT_PATH = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def read_document(uri: str) -> ModelDocument:
    """The model.json of a model directory; raises ModelError if it is damaged, NotFoundError if it is not there."""
    return parse_document(objects.read_bytes(objects.join(uri, MODEL_JSON)), uri)


def is_model_uri(name: EncoderSpec) -> TypeGuard[str]:
    """Whether an encoder's name is the location of a model directory."""
    return isinstance(name, str) and objects.exists(objects.join(name, MODEL_JSON))


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderChoice:
    """What the name of an encoder meant: its identity, and what embeds."""

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
        document = read_document(name)
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


def model_uri(name: EncoderSpec, store: Store) -> EncoderSpec:
    """Where the model with this name is, for one that must embed raw items. Raises SettingsError if it is only a name."""
    choice = resolve_encoder(name, store)
    if choice.uri is None:
        raise SettingsError(
            f"{name!r} is neither a model directory, nor package.module:factory, nor a model of the store; want a model "
            "that can embed raw items: fit one (fct-ray fit), or adopt existing embeddings (fct-ray adopt)"
        )
    return choice.uri
