"""From the spec of a source, `name[:location][?key=value&key=value]`, to its items.

Owns: the grammar and the list of names. Only readers are kept in a process, which hold no listing: who opens a source lists
its items as they are at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import overload
from urllib.parse import parse_qsl

from fct_ray.errors import SettingsError
from fct_ray.sources.items import Reader, Source
from fct_ray.sources.listing import Listing

OPENERS: Mapping[str, str] = {
    "fashion-mnist": "fct_ray.sources.fashion_mnist",
    "kanji": "fct_ray.sources.kanji",
    "images": "fct_ray.sources.folder",
    "parquet": "fct_ray.sources.parquet_items",
}
"""Name -> module with `open_spec(spec, location, options)` and `OPTIONS`, the option names that it takes."""


def open_source(spec: str) -> Source:
    """The items that a source has now, e.g. of "fashion-mnist:fit?classes=0-4" or "images:s3://bucket/photos".

    Raises:
        SettingsError: unknown name or option; the message lists the known ones.
        SourceError: its items cannot be found.
    """
    reader = open_reader(spec)
    listing, known = reader.list_items()
    return Source(listing=listing, reader=reader, known=known)


def open_listing(listing: Listing) -> Source:
    """The items of a listing that was made before; nothing is listed anew."""
    return Source(listing=listing, reader=open_reader(listing.source.spec))


@lru_cache(maxsize=4)
def open_reader(spec: str) -> Reader:
    """What reads the items of listings of this source. Raises SettingsError."""
    head, _, query = spec.partition("?")
    name, _, location = head.partition(":")
    if name not in OPENERS:
        raise SettingsError(f"source {spec!r}: unknown name {name!r}; want one of {', '.join(sorted(OPENERS))}")
    module = import_module(OPENERS[name])
    known: tuple[str, ...] = module.OPTIONS
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise SettingsError(
            f"source {spec!r}: unknown option {unknown[0]!r}; {name} knows {', '.join(known) or 'none'}"
        )
    opener: Callable[[str, str, Mapping[str, str]], Reader] = module.open_spec
    return opener(spec, location, options)


@overload
def int_option(spec: str, options: Mapping[str, str], name: str, default: int) -> int: ...
@overload
def int_option(spec: str, options: Mapping[str, str], name: str, default: None) -> int | None: ...
def int_option(spec: str, options: Mapping[str, str], name: str, default: int | None) -> int | None:
    """An option as a number; SettingsError otherwise."""
    text = options.get(name)
    if text is None:
        return default
    if not text.isdigit():
        raise SettingsError(f"source {spec!r}: option {name} is {text!r}; want a whole number")
    return int(text)


def range_option(spec: str, options: Mapping[str, str], name: str, default: range) -> range:
    """An option "first-last" (both included) as a range; SettingsError otherwise."""
    text = options.get(name)
    if text is None:
        return default
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise SettingsError(f"source {spec!r}: option {name} is {text!r}; want FIRST-LAST, for example 0-4")
    return range(int(first), int(last) + 1)
