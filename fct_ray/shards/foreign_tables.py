"""Every table in another system that a gallery can be imported from.

Owns: that FAISS files are read with `index/` and all else with `connectors/`, which may not know faiss.
"""

from __future__ import annotations

from fct_ray.connectors import tables
from fct_ray.connectors.places import parse_place
from fct_ray.connectors.protocols import ForeignTable
from fct_ray.shards.faiss_table import open_faiss


def open_table(text: str) -> ForeignTable:
    """The table at a place, `SYSTEM:ADDRESS[#TABLE]`.

    Raises:
        SettingsError: there is no such system, its library is not installed, or the place lacks something.
        SourceError: there is no such table, or it does not answer.
        FormatError: it holds no vectors.
    """
    place = parse_place(text)
    return open_faiss(place) if place.system == "faiss" else tables.open_table(text)
