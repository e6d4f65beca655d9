"""Model directories: the bytes of models (models/) and the places where they lie (storage/).

Owns: writing and reading the files of a model directory (two, and true vectors where there are some), and opening an
encoder that is named by its location.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fct_ray.errors import FormatError, ModelError
from fct_ray.models.batch_encoder import BatchEncoder, load_factory
from fct_ray.models.by_name.registry import kind_of, open_named
from fct_ray.models.model_files import LoadedModel, PackedModel, check_packed, unpack_model
from fct_ray.models.model_json import parse_document
from fct_ray.models.module_encoder import ModuleEncoder
from fct_ray.shards.encoder_names import (
    IMPORT_PATH,
    MODEL_JSON,
    EncoderChoice,
    EncoderSpec,
    is_model_uri,
    resolve_encoder,
)
from fct_ray.storage import objects, paths, true_vector_files
from fct_ray.storage.store import Store

WEIGHTS = "weights.safetensors"


def save_model(models_uri: str, packed: PackedModel) -> str:
    """Write `<models_uri>/<name>-<hash12>/` and return its URI; the same model again is the same directory."""
    uri = objects.join(models_uri, packed.directory_name)
    if packed.true_vectors is not None:
        objects.write_bytes(objects.join(uri, true_vector_files.NAME), packed.true_vectors)
    objects.write_bytes(objects.join(uri, WEIGHTS), packed.weights)
    objects.write_bytes(objects.join(uri, MODEL_JSON), packed.model_json)
    return uri


def load_model(uri: str) -> LoadedModel:
    """The model in a directory; raises ModelError if it is damaged, NotFoundError if it is not there."""
    model_json = objects.read_bytes(objects.join(uri, MODEL_JSON))
    return unpack_model(model_json, objects.read_bytes(objects.join(uri, WEIGHTS)), uri)


def packed_model(uri: str, *, true_vectors: bool = True) -> PackedModel:
    """The files of a model directory as they lie there, to be written elsewhere; without `true_vectors` that file is left
    out, and its document still names it: see `with_true_vectors`.

    Raises:
        ModelError: one is damaged; NotFoundError: there is none.
    """
    document = parse_document(objects.read_bytes(objects.join(uri, MODEL_JSON)), uri)
    beside = None
    if true_vectors and document.true_vectors_sha256 is not None:
        beside = objects.read_bytes(objects.join(uri, true_vector_files.NAME))
    weights = objects.read_bytes(objects.join(uri, WEIGHTS))
    return check_packed(PackedModel(document=document, weights=weights, true_vectors=beside), uri)


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


def embedding_encoder(name: EncoderSpec, store: Store | None) -> EncoderChoice:
    """`resolve_encoder`, and whether it can embed now: an endpoint that is switched off has an identity and no vectors.

    Raises:
        SettingsError, ModelError: see `resolve_encoder`.
    """
    choice = resolve_encoder(name, store)
    if choice.uri is None:
        return choice
    try:
        _ = open_encoder(choice.uri).dimension
    except ModelError as error:
        return replace(choice, uri=None, problem=str(error))
    return choice


def open_encoder(uri: EncoderSpec) -> BatchEncoder:
    """A ready encoder from a model directory, a name or an import path; one that is ready already is returned as it is."""
    if not isinstance(uri, str):
        return uri
    if kind_of(uri) is not None:
        return open_named(uri)
    if IMPORT_PATH.match(uri) and not is_model_uri(uri):
        return load_factory(uri)
    loaded = load_model(uri)
    if loaded.document.kind == "transformation":
        raise ModelError(f"{uri} is a transformation; want an encoder: give the directory of an encoder")
    return ModuleEncoder(loaded)
