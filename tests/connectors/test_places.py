"""What names a gallery elsewhere, and that no password stands in it."""

from __future__ import annotations

import pytest

from fct_ray.connectors.places import Place, parse_place, table_of
from fct_ray.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("parquet:some/dir", Place(system="parquet", address="some/dir")),
        ("lancedb:s3://bucket/db#items", Place(system="lancedb", address="s3://bucket/db", table="items")),
        (
            "pgvector:postgresql://me@host:5433/shop#public.items",
            Place(system="pgvector", address="postgresql://me@host:5433/shop", table="public.items"),
        ),
    ],
)
def test_a_place_has_a_system_an_address_and_perhaps_a_table(text: str, place: Place) -> None:
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize("text", ["", "parquet", "parquet:", ":dir", "lancedb:db#", "/a/path"])
def test_what_names_no_place_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match="SYSTEM:ADDRESS"):
        parse_place(text)


@pytest.mark.parametrize(
    "text",
    [
        "pgvector:postgresql://me:hunter2@host/db#t",
        "pgvector:postgresql://me@host/db?password=hunter2#t",
        "qdrant:http://host:6333?api_key=hunter2#t",
        "pgvector:host=h password=hunter2#t",
    ],
)
def test_a_place_with_a_password_is_refused_and_the_password_is_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match="environment") as refused:
        parse_place(text)
    assert "hunter2" not in str(refused.value)


def test_a_place_without_a_table_is_told_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match="lancedb:db#NAME"):
        table_of(parse_place("lancedb:db"))
