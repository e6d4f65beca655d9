"""Places: what people write to name a gallery in another system, `SYSTEM:ADDRESS[#TABLE]`.

Owns: that grammar, and that no password stands in a place. Knows no system but by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fct_ray.errors import SettingsError

_SECRET_WORDS = ("password", "passwd", "token", "secret", "api_key", "apikey", "api-key", "access_key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A gallery in another system."""

    system: str
    """E.g. "pgvector"."""
    address: str
    """A directory, a file, or the URI of a server."""
    table: str | None = None
    """The table, collection, version or split there."""

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.system}:{self.address}" + ("" if self.table is None else f"#{self.table}")


def parse_place(text: str) -> Place:
    """The place that a text names.

    Raises:
        SettingsError: it has no system or no address, or a password in it.

    Examples:
        >>> parse_place("lancedb:/data/db#items")
        Place(system='lancedb', address='/data/db', table='items')
        >>> str(parse_place("faiss:all.faiss"))
        'faiss:all.faiss'
    """
    system, colon, rest = text.partition(":")
    address, hash_sign, table = rest.partition("#")
    if not colon or not system.replace("-", "").isalnum() or not address or (hash_sign and not table):
        raise SettingsError(
            f"{_without_secrets(text)!r:.100} names no place; want SYSTEM:ADDRESS[#TABLE], such as parquet:DIR, faiss:FILE, "
            "lancedb:DIR#items or pgvector:postgresql://user@host/db#items"
        )
    if _holds_secret(address):
        raise SettingsError(
            f"{system}: the place holds a password or key; want none in it: give it in the environment (PGPASSWORD, "
            "QDRANT_API_KEY, MILVUS_TOKEN, CHROMA_TOKEN ...)"
        )
    return Place(system=system, address=address, table=table or None)


def from_anywhere(place: Place) -> Place:
    """A place that is a file or directory here, by its absolute path: the same one from any working directory."""
    path = Path(place.address)
    return replace(place, address=str(path.absolute())) if "://" not in place.address and path.exists() else place


def table_of(place: Place) -> str:
    """The table that a place names. Raises SettingsError where it names none."""
    if place.table is None:
        raise SettingsError(f"{place}: names no table; want {place}#NAME")
    return place.table


def _holds_secret(address: str) -> bool:
    if "://" not in address:
        return any(f"{word}=" in address.lower() for word in _SECRET_WORDS)
    try:
        parts = urlsplit(address)
        has_password = bool(parts.password)
    except ValueError:
        return True
    asked = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return has_password or any(word in name for name in asked for word in _SECRET_WORDS)


def _without_secrets(text: str) -> str:
    return text.rsplit("@", maxsplit=1)[-1] if "@" in text else text
