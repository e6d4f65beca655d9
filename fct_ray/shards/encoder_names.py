"""What the name of an encoder means: a model directory or pretrained model, import path, model of the store, bare name.

Owns: resolving a name to the encoder's identity, from model.json without its weights. Does not import torch, so that
searching does not; only networks of timm, torchvision and open_clip are loaded to know them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TypeGuard

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder, check_encoder, load_factory
from fct_ray.models.by_name.registry import KINDS, kind_of, open_named, with_absolute_paths
from fct_ray.models.model_json import ModelDocument, parse_document
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef

MODEL_JSON = "model.json"
EncoderSpec = str | BatchEncoder
"""Where an encoder is (a model directory, `package.module:factory`, or the name of a pretrained model such as
`timm:resnet50.a1_in1k`), or the encoder itself; it is sent to workers."""
logger = logging.getLogger(__name__)
IMPORT_PATH = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def read_document(uri: str) -> ModelDocument:
    """The model.json of a model directory; raises ModelError if it is damaged, NotFoundError if it is not there."""
    return parse_document(objects.read_bytes(objects.join(uri, MODEL_JSON)), uri)


def is_model_uri(name: EncoderSpec) -> TypeGuard[str]:
    """Whether an encoder's name is the location of a model directory."""
    return isinstance(name, str) and kind_of(name) is None and objects.exists(objects.join(name, MODEL_JSON))


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderChoice:
    """What the name of an encoder meant: its identity, and what embeds."""

    ref: EncoderRef
    uri: EncoderSpec | None
    """Where its code and weights are, or the encoder itself. None: only its vectors exist."""
    problem: str | None = None
    """Why it cannot embed, where its name means one that could."""


def resolve_encoder(name: EncoderSpec, store: Store | None) -> EncoderChoice:
    """Resolve an encoder, a model directory, a pretrained model (`by_name.registry`), `package.module:factory`, the name of a
    model in the store, or a bare name.

    A bare name stands for an encoder that is not here (an API, say): its fingerprint is a hash of the name, so put
    the provider's model version into it. A pretrained model that cannot be had any more is known by name to a store that
    has vectors of it; then it is one that is not here.

    Raises:
        SettingsError: the name is empty, or several models of the store have it.
        ModelError: a pretrained model cannot be had, and the store does not know it.
    """
    if not isinstance(name, str):
        check_encoder(name)
        return EncoderChoice(ref=EncoderRef(name=name.name, fingerprint=name.fingerprint), uri=name)
    if not name.strip():
        raise SettingsError("encoder name is empty; give a model directory, package.module:factory, or a name")
    if is_model_uri(name):
        document = read_document(name)
        return EncoderChoice(ref=EncoderRef(name=document.name, fingerprint=document.fingerprint), uri=name)
    if kind_of(name) is not None:
        return _pretrained(name, store)
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


def _pretrained(name: str, store: Store | None) -> EncoderChoice:
    spec = with_absolute_paths(name)
    try:
        fingerprint = open_named(spec).fingerprint
    except (ModelError, SettingsError) as error:
        known = None if store is None else _encoder_of_versions(name, store)
        if known is None:
            raise
        logger.warning("%s: its vectors are known by the store, and it cannot embed now: %s", name, error)
        return EncoderChoice(ref=known, uri=None, problem=str(error))
    return EncoderChoice(ref=EncoderRef(name=name, fingerprint=fingerprint), uri=spec)


def _encoder_of_versions(name: str, store: Store) -> EncoderRef | None:
    """The encoder of this name that made vectors of a version, the newest first."""
    for manifest in reversed(store.history()):
        side = () if manifest.side_info is None else (manifest.side_info,)
        for seen in (manifest.encoder, *(query.encoder for query in manifest.queries), *side):
            if seen.name == name:
                return EncoderRef(name=name, fingerprint=seen.fingerprint)
    return None


def _models_named(name: str, store: Store) -> list[str]:
    return [
        uri for uri in store.model_uris() if re.sub(r"-[0-9a-f]{12}$", "", uri.rstrip("/").rsplit("/", 1)[-1]) == name
    ]


def model_uri(name: EncoderSpec, store: Store) -> EncoderSpec:
    """Where the model with this name is, for one that must embed raw items. Raises SettingsError if it is only a name."""
    choice = resolve_encoder(name, store)
    if choice.uri is None:
        raise SettingsError(cannot_embed(name, choice))
    return choice.uri


def why_not(choice: EncoderChoice) -> str:
    """Why an encoder cannot embed, as the rest of a sentence that begins with its name."""
    return "is only a name" if choice.problem is None else f"cannot be had ({choice.problem})"


def cannot_embed(name: EncoderSpec, choice: EncoderChoice) -> str:
    """Why an encoder that was named cannot embed raw items, and what can."""
    if choice.problem is not None:
        return f"encoder {name!r} cannot embed: {choice.problem}"
    return (
        f"encoder {name!r} is only a name; want one that can embed raw items: a model directory (fct-ray fit), "
        f"package.module:factory, a model of the store, or a pretrained one ({', '.join(f'{kind}:...' for kind in KINDS)})"
    )
