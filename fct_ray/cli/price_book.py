"""The dated price book as a file: where it lies, and YAML into `fct_ray.plan.cost.PriceBook`.

Owns: finding and reading the file. What money is made of it is `plan.cost`'s. A missing or misspelt price book is
an error, because a run whose cost is unknown must never be reported as free.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from fct_ray.cli.yaml_file import load_mapping
from fct_ray.errors import SettingsError
from fct_ray.plan.cost import NodePrice, PriceBook, StoragePrice

_ADVICE = "give the path of a price book with --pricing.price-book, for example a copy of cluster/prices.yaml"


def default_price_book_path() -> Path:
    """The price book that comes with this package; in a checkout a link to `cluster/prices.yaml`."""
    return Path(__file__).with_name("prices.yaml")


def load_price_book(path: str | Path | None = None) -> PriceBook:
    """The price book at `path`, or the one that comes with this package.

    Raises:
        SettingsError: no such file, not YAML, or fields that are missing, unknown or of the wrong type.
    """
    file = default_price_book_path() if path is None else Path(path)
    content = load_mapping(file, f"price book {file}", _ADVICE)
    _refuse_unknown_fields(content, file)
    try:
        # Through JSON, because strict validation of Python values wants instances of the dataclasses.
        text = json.dumps(content, default=str, allow_nan=False)
        return pydantic.TypeAdapter(PriceBook).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"price book {file}: field {field}: {first['msg']}; correct the file") from None
    except ValueError as error:
        raise SettingsError(f"price book {file}: {error}; correct the file") from None


def _refuse_unknown_fields(content: Mapping[str, Any], file: Path) -> None:
    """A misspelt `spot_usd_per_hour` must not silently become "no spot price"."""
    parts: list[tuple[str, Any, type[Any]]] = [("", content, PriceBook)]
    for section, kind in (("node_types", NodePrice), ("storage", StoragePrice)):
        entries = content.get(section)
        if isinstance(entries, dict):
            parts += [(f"{section}.{name}.", entry, kind) for name, entry in entries.items()]
    for prefix, entry, kind in parts:
        known = {field.name for field in dataclasses.fields(kind)}
        unknown = sorted(str(name) for name in entry if name not in known) if isinstance(entry, dict) else []
        if unknown:
            raise SettingsError(
                f"price book {file}: unknown field {prefix}{unknown[0]}, wanted one of {', '.join(sorted(known))}"
            )
