"""model.json: what a model is, where it came from, and the fingerprint that identifies it.

Owns: the document's fields, reading and checking it, and how a fingerprint is computed. Knows no weights and does not import
torch: whoever only asks which model this is (a searcher, a plan) need not pay for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pydantic

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.values import FORMAT_VERSION, Usage

ModelKind = Literal["encoder", "side", "transformation"]
NOT_IN_NAMES = re.compile(r"^\.|[/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]")
"""What the name of a model must not have: it is part of a directory's name."""


@pydantic.with_config(pydantic.ConfigDict(extra="forbid"))
@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDocument:
    """model.json: what a model is, where it came from, and the hash of its weights.

    `from_encoder`, `to_encoder` and `side_fingerprint` are fingerprints of the models that a transformation maps
    between and of its side-information; None for encoders. `provenance` is free: data, settings, seed, usage.
    """

    format_version: int = FORMAT_VERSION
    kind: ModelKind
    name: str
    architecture: dict[str, Any]
    dimension: int
    metric: Metric
    normalized: bool
    provenance: dict[str, Any]
    weights_sha256: str
    fingerprint: str
    from_encoder: str | None = None
    to_encoder: str | None = None
    side_fingerprint: str | None = None
    true_vectors_sha256: str | None = None
    """The hash of true_vectors.parquet beside it: embeddings by `to_encoder` that stand in for the model's output. None:
    there is none, and the field is absent."""

    def to_json(self) -> bytes:
        """The bytes of a model.json."""
        fields = asdict(self)
        if self.true_vectors_sha256 is None:  # as releases write and read it that know no true vectors
            del fields["true_vectors_sha256"]
        return json.dumps(fields, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"

    def usage(self) -> Usage | None:
        """What fitting the model took, if its provenance says so; raises ModelError for what is no usage record."""
        record = self.provenance.get("usage")
        try:
            return pydantic.TypeAdapter(Usage | None).validate_python(record)
        except pydantic.ValidationError as error:
            raise ModelError(
                f"model {self.name!r}: its provenance has the usage {record!r:.200}; wanted one of seconds, FLOPs, bytes "
                "and rows: pack it again"
            ) from error


def parse_document(model_json: bytes, uri: str) -> ModelDocument:
    """The document in the bytes of a model.json; `uri` is only for messages.

    Raises:
        ModelError: it is no model document, is of another format version, or its fingerprint is not that of its content.
    """
    try:
        document = pydantic.TypeAdapter(ModelDocument).validate_json(model_json)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ModelError(
            f"{uri}: model.json is not a model document: {field}: {first['msg']}; pack it again"
        ) from error
    if document.format_version != FORMAT_VERSION:
        raise ModelError(
            f"{uri}: model.json has format_version {document.format_version}; this version of fct_ray reads "
            f"{FORMAT_VERSION}: use a release that matches"
        )
    if not document.name or NOT_IN_NAMES.search(document.name):
        raise ModelError(
            f"{uri}: model.json names its model {document.name!r:.100}; wanted a plain name: pack it again"
        )
    content = fingerprint_of(document)
    if content != document.fingerprint:
        raise ModelError(
            f"{uri}: model.json says fingerprint {document.fingerprint[:12]}, its content has {content[:12]}; "
            "it was edited: restore the original"
        )
    return document


def plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """The same values as JSON gives them back (lists for tuples); raises SettingsError for what JSON does not know."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"provenance and architecture must be JSON: {error}; pass plain values") from error
    return plain


def fingerprint_of(document: ModelDocument) -> str:
    """The fingerprint that its content has, whatever the document says: sha256 over canonical JSON.

    The direction (from, to, side fingerprints) is part of it for transformations only, the hash of true vectors where there
    are some.
    """
    parts: list[Any] = [
        document.kind,
        document.architecture,
        str(document.metric),
        document.normalized,
        document.weights_sha256,
    ]
    if document.kind == "transformation":
        parts += (document.from_encoder, document.to_encoder, document.side_fingerprint)
    if document.true_vectors_sha256 is not None:
        parts.append(document.true_vectors_sha256)
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
