"""What every settings class is: a frozen dataclass that refuses values with which no work could end well.

    class GateSettings(CheckedSettings):
        k: Count = 10                    # the annotation is the check; the command line's parser reads the same one

Owns: the kinds of numbers that settings have, the check of a settings value with all that it contains, and the words of a
refusal. Knows no setting by name. Whether settings fit each other, or a store, is decided where a job is planned.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, ConfigDict, TypeAdapter, ValidationError

from fct_ray.errors import SettingsError

_FINITE = AllowInfNan(False)
_LARGEST = Le(2**31 - 1)  # what C++ libraries below take for an int, and what no count of ours comes near

Count = Annotated[int, Ge(1), _LARGEST]
"""How many of something of which at least one is needed."""
NumBytes = Annotated[int, Ge(1)]
"""A size in memory or on a disk."""
CountOrZero = Annotated[int, Ge(0), _LARGEST]
"""How many of something that can be left out."""
Seed = Annotated[int, Ge(0), _LARGEST]
"""What random numbers start from."""
Positive = Annotated[float, Gt(0), _FINITE]
"""An amount above zero."""
PositiveOrZero = Annotated[float, Ge(0), _FINITE]
"""An amount of zero or more."""
Part = Annotated[float, Gt(0), Lt(1), _FINITE]
"""A share of which something, and of whose rest something, must be left."""
PartOrNone = Annotated[float, Ge(0), Lt(1), _FINITE]
"""A share that may be nothing, but not everything."""
PartOrAll = Annotated[float, Gt(0), Le(1), _FINITE]
"""A share that may be everything, but not nothing."""
Share = Annotated[float, Ge(0), Le(1), _FINITE]
"""A share between nothing and everything, both included."""

_checked_together: ContextVar[bool] = ContextVar("checked_together", default=False)
_WORDS = (
    (re.compile(r"^Input should be "), ""),
    (re.compile(r"^a valid integer$"), "a whole number"),
    (re.compile(r"^greater than or equal to (\S+)"), r"\1 or more"),
    (re.compile(r"^less than or equal to (\S+)"), r"\1 or less"),
    (re.compile(r"^greater than "), "more than "),
)


class CheckedSettings:
    """The base of every settings class: making one with a value that cannot work raises SettingsError."""

    def __post_init__(self) -> None:
        """Check all fields, those of contained settings too."""
        if not _checked_together.get():
            check_settings(self, f"{type(self).__name__}.")


@contextmanager
def checked_together() -> Iterator[None]:
    """Settings made in this block are not checked one by one: whoever makes them calls `check_settings` on the whole.

    So a refusal can name a setting from the root, as `--quickstart.old.epochs`.
    """
    token = _checked_together.set(True)
    try:
        yield
    finally:
        _checked_together.reset(token)


def check_settings(settings: CheckedSettings, prefix: str, separator: str = "_") -> None:
    """Check a settings value and all settings that it contains; a refusal names `prefix`, then the path of the field.

    `separator` replaces the underscores of names: with prefix `--` and separator `-` a refusal says `--gate.num-pairs`.

    Raises:
        SettingsError: the value seen, the value wanted, and the setting.
    """
    checks = _checks(type(settings))  # type: ignore[arg-type] # a class is hashable, whatever its instances are
    for field in dataclasses.fields(settings):  # type: ignore[arg-type] # every settings class is a dataclass
        value, name = getattr(settings, field.name), f"{prefix}{field.name.replace('_', separator)}"
        if isinstance(value, CheckedSettings):
            check_settings(value, f"{name}.", separator)
            continue
        try:
            checks[field.name].validate_python(value, strict=True)
        except ValidationError as error:
            left_out = ", or leave it out" if field.default is None else ""
            raise SettingsError(f"{name} is {value!r:.100}; want {_wanted(error)}{left_out}") from None


@cache
def _checks(settings_type: type[Any]) -> Mapping[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(settings_type, include_extras=True)
    names = [field.name for field in dataclasses.fields(settings_type)]
    return {name: TypeAdapter(hints[name], config=_config(hints[name])) for name in names}


def _config(hint: Any) -> ConfigDict | None:
    """Pydantic takes no configuration for types that have their own: dataclasses among them."""
    return None if dataclasses.is_dataclass(hint) else ConfigDict(arbitrary_types_allowed=True)


def _wanted(error: ValidationError) -> str:
    """What pydantic says it wants, in fewer words; of a union's parts, the first that is not "None"."""
    problems = [problem for problem in error.errors() if problem["type"] != "none_required"]
    wanted = problems[0]["msg"]
    for theirs, ours in _WORDS:
        wanted = theirs.sub(ours, wanted)
    return wanted
