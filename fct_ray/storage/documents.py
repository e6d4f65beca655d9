"""JSON documents: canonical bytes out, checked values in.

Owns: the one way in which a value of `fct_ray.values` becomes bytes (so that its hash means something) and how
strictly bytes become a value again. Knows no file system: the URI it is given only names the document in errors.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Hashable
from types import GenericAlias
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, from_json, to_jsonable_python

from fct_ray.errors import FormatError

T = TypeVar("T")
_INT64: dict[str, Any] = {"type": "int", "ge": -(2**63), "le": 2**63 - 1}


def sha256_hex(data: bytes | memoryview) -> str:
    """The SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def dump(value: Any) -> bytes:
    """Canonical JSON of `value` (a dataclass, mapping, sequence or scalar), UTF-8.

    Sorted keys, indent 1, a newline at the end: equal values give equal bytes.

    Raises:
        FormatError: a number is NaN or infinite (JSON has no word for it).
        TypeError: a part of `value` has no JSON form.
    """
    try:
        text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise FormatError(
            f"a {type(value).__name__} cannot be written as JSON: {error}. Wanted: finite numbers; leave out what "
            "could not be measured"
        ) from error
    return text.encode() + b"\n"


def plain(value: Any) -> Any:
    """`value` as dicts, lists and scalars, for use inside another document. Raises TypeError."""
    return to_jsonable_python(_without_unset(value), fallback=_plain_scalar)


def load(value_type: type[T], data: bytes, uri: str) -> T:
    """The value of `value_type` (a dataclass) that the JSON `data` holds.

    Strict: missing and unknown fields, values of another JSON type, whole numbers beyond 64 bits, NaN and infinity are
    refused.

    Raises:
        FormatError: names `uri` and the first field that is wrong.
    """
    try:
        return cast("T", _validator(cast("Hashable", value_type)).validate_json(b"[" + data + b"]")[0])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "the whole document"
        more = f" ({error.error_count() - 1} more fields are wrong too)" if error.error_count() > 1 else ""
        raise FormatError(
            f"{uri}: not a {value_type.__name__}: field {field!r}: {first['msg']}, seen {first['input']!r:.200}{more}. "
            "Was it written by another version of fct_ray, or cut short?"
        ) from error


def parse(data: bytes, uri: str) -> Any:
    """The JSON `data` as dicts, lists and scalars, whatever it holds. Raises FormatError."""
    try:
        return from_json(data)
    except ValueError as error:
        raise FormatError(f"{uri}: not JSON: {error}. Was it cut short? Restore it or roll back") from error


@functools.cache
def _validator(value_type: Any) -> SchemaValidator:
    # The tuple around the type is what lets the configuration reach standard-library dataclasses, nested ones too.
    wrapped: Any = GenericAlias(tuple, (value_type,))
    adapter = TypeAdapter(wrapped, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
    return SchemaValidator(_with_bounded_ints(adapter.core_schema))


def _with_bounded_ints(schema: Any) -> Any:
    if isinstance(schema, dict):
        bounds = _INT64 if schema.get("type") == "int" else {}
        return {key: _with_bounded_ints(part) for key, part in schema.items()} | bounds
    if isinstance(schema, list):
        return [_with_bounded_ints(part) for part in schema]
    return schema


def _without_unset(value: Any) -> Any:
    """`value` with dataclasses as dicts that lack the fields which are written only where they are set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f.name, getattr(value, f.name), f.metadata) for f in dataclasses.fields(value)]
        return {
            name: _without_unset(part)
            for name, part, about in fields
            if not (part is None and about.get("only_where_set"))
        }
    if isinstance(value, list | tuple):
        return [_without_unset(part) for part in value]
    if isinstance(value, dict):
        return {name: _without_unset(part) for name, part in value.items()}
    return value


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON form for {type(value).__name__}: {value!r:.100}")
