"""Model directories: the bytes of models (models/) and the places where they lie (storage/).

Owns: writing and reading the two files of a model directory, and opening an encoder that is named by its location.
"""

from __future__ import annotations

from collections.abc import Iterable

from fct_ray.errors import FormatError, ModelError
from fct_ray.models.batch_encoder import BatchEncoder, load_factory
from fct_ray.models.model_files import LoadedModel, PackedModel, unpack_model
from fct_ray.models.module_encoder import ModuleEncoder
from fct_ray.shards.encoder_names import IMPORT_PATH, MODEL_JSON, EncoderSpec, is_model_uri
from fct_ray.storage import objects, paths

WEIGHTS = "weights.safetensors"


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
