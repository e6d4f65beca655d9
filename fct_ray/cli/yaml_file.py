"""YAML files that people write (settings, price books): one mapping of names to values, or a clear refusal.

Owns: what is refused before anybody looks at the values: files that are too large, not YAML, nested without end, with
aliases (a few lines of them unfold to gigabytes), or with names that are not text. Knows nothing of what they mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fct_ray.errors import SettingsError

MAX_BYTES = 256 * 1024
_NOT_IN_TEXT = re.compile("[\x00\ud800-\udfff]")
_LEAKED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What PyYAML's own constructors raise besides YAMLError, for example on `2026-99-99`, `!!int ''` or `[[[[...`."""


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain types only, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="found an alias (*name): write the value out",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)


def load_mapping(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The mapping in a YAML file; `what` begins and `advice` ends every refusal.

    Raises:
        SettingsError: the file cannot be read, is too large, is not YAML, or is not a mapping of names to values.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{what}: cannot be read ({error.strerror}); {advice}") from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{what}: has more than {MAX_BYTES:,} bytes, wanted a file written by hand; {advice}")
    try:
        content = yaml.load(data, _PlainLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, *_LEAKED) as error:
        raise SettingsError(f"{what}: not YAML ({_where(error)}); {advice}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{what}: holds {type(content).__name__}, wanted a mapping of names to values; {advice}")
    _check_text(content, what, advice)
    return content


def _where(error: Exception) -> str:
    """The problem and its line, without the excerpt that PyYAML adds: it may be a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return f"{error!s:.200}"


def _check_text(value: Any, what: str, advice: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise SettingsError(f"{what}: {name!r:.100} is not a name, wanted text (in quotes); {advice}")
            _check_text(name, what, advice)
            _check_text(inner, what, advice)
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner, what, advice)
    elif isinstance(value, str) and _NOT_IN_TEXT.search(value):
        raise SettingsError(f"{what}: {value!r:.100} holds a character that no name or path can have; {advice}")
