"""Keyword arguments of the Python API to the settings of a job: checked by name, type and value before anything starts.

    plan_upgrade(precision="float32", fit={"epochs": 10})  ->  UpgradeSettings(precision=Precision.FLOAT32, fit=...)

Owns: what may be written in place of a settings object. What the settings mean is said where they are defined.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import pydantic

from fct_ray.errors import SettingsError

SettingsT = TypeVar("SettingsT")


def settings_of(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """An instance of the settings class `kind`; enums may be given by value and nested settings as mappings.

    Raises:
        SettingsError: there is no such setting, or a value has the wrong type or is out of range.
    """
    _refuse_unknown(kind, values, "")
    try:
        return pydantic.TypeAdapter(kind).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"setting {name} is {first['input']!r:.200}: {first['msg']}") from None


def _refuse_unknown(kind: type[Any], values: Mapping[str, Any], prefix: str) -> None:
    known = [field.name for field in fields(kind)]
    types = get_type_hints(kind)
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"want one of {', '.join(known)}"
            raise SettingsError(f"there is no setting {prefix}{name}; {hint}")
        if isinstance(value, Mapping) and is_dataclass(types[name]):
            _refuse_unknown(types[name], value, f"{prefix}{name}.")
