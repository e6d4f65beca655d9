"""Which systems a gallery can be imported from, and which module speaks to each.

Owns: the list. A system's module is loaded, and its library looked for, only when a place names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from fct_ray.connectors.places import Place, parse_place
from fct_ray.connectors.protocols import ForeignTable
from fct_ray.errors import SettingsError

TABLES: Mapping[str, tuple[str, str | None]] = {
    "npy": ("npy_directory", None),
    "huggingface": ("huggingface_dataset", "huggingface"),
    "delta": ("delta_table", "delta"),
    "iceberg": ("iceberg_table", "iceberg"),
    "lance": ("lance_dataset", "lance"),
    "lancedb": ("lance_dataset", "lance"),
    "pgvector": ("pgvector_reader", "pgvector"),
}
"""System -> (module here with `open_table(place)`, the extra that installs its library; None: it is always there).
FAISS files are read by `fct_ray/shards/faiss_table`, since faiss belongs to `index/`."""


def open_table(text: str) -> ForeignTable:
    """The table at a place, `SYSTEM:ADDRESS[#TABLE]`.

    Raises:
        SettingsError: there is no such system, its library is not installed, or the place lacks something.
        SourceError: there is no such table, or it does not answer.
    """
    place = parse_place(text)
    if place.system not in TABLES:
        known = ", ".join(sorted({*TABLES, "faiss"}))
        raise SettingsError(
            f"{place.system!r} is no system that a gallery can be imported from; want one of {known}. "
            "Parquet files are adopted where they lie: fct-ray adopt"
        )
    name, extra = TABLES[place.system]
    try:
        module = import_module(f"fct_ray.connectors.{name}")
        opener: Callable[[Place], ForeignTable] = module.open_table
        return opener(place)
    except ImportError as error:
        raise SettingsError(
            f"{place.system}: the library {error.name or 'of this system'!r} cannot be imported; install it with "
            f"`pip install 'fct_ray[{extra or place.system}]'`"
        ) from error
