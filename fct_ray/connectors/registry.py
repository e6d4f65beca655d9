"""Which systems there are, and which module speaks to each.

Owns: the two lists. A system's module is loaded, and its client library looked for, only when a place names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Destination, Target
from fct_ray.errors import SettingsError


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One system: the module that speaks to it, and the extra of this package that installs its client."""

    module: str
    extra: str | None
    """None: what it needs is installed always."""


DESTINATIONS: Mapping[str, System] = {
    "parquet": System(module="parquet_directory", extra=None),
    "huggingface": System(module="parquet_directory", extra=None),
    "lancedb": System(module="lancedb_tables", extra="lancedb"),
    "pgvector": System(module="pgvector_tables", extra="pgvector"),
}
"""Systems that a version can be written to; each module has `open_destination(place, target)`. (A FAISS file is written by
`fct_ray/shards/faiss_destination`, for faiss belongs to `index/`.)"""


def open_destination(place: Place, target: Target) -> Destination:
    """The destination at a place; nothing is asked of the system yet.

    Raises:
        SettingsError: there is no such system, or its client library is not installed.
    """
    system = DESTINATIONS.get(place.system)
    if system is None:
        known = ", ".join(sorted({*DESTINATIONS, "faiss"}))
        raise SettingsError(f"{place.system!r} is no system that a version can be exported to; want one of {known}")
    try:
        module = import_module(f"fct_ray.connectors.{system.module}")
        opened: Destination = module.open_destination(place, target)
    except ImportError as error:
        raise missing_extra(place.system, system.extra, error) from error
    return opened


def missing_extra(system: str, extra: str | None, error: ImportError) -> SettingsError:
    """What to say where a system's client library cannot be imported."""
    return SettingsError(
        f"{system}: the library {error.name or 'of this system'!r} cannot be imported; install it with "
        f"`pip install 'fct_ray[{extra or system}]'`"
    )
